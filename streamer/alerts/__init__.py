"""Alerts: rules over the feed, written down before they are sent, and sent until somebody has them."""
