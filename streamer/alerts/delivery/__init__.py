"""What the outbox holds to its receivers: at least once, in order, never in floods."""
