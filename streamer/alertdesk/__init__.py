"""Alerts as the HTTP side and the commands ask for them."""
