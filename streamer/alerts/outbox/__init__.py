"""The outbox: alerts on disk before anything is sent, until they were delivered."""
