"""What stands in deploy/: held to the service that it is for."""
