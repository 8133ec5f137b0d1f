"""What is measured of the running service: metrics, stalls, freezes, traces."""
