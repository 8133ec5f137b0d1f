"""What the commands do beside running the service, and how they speak in a terminal."""
