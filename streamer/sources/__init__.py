"""Where media comes from: one state machine a source, one timeline a connection."""
