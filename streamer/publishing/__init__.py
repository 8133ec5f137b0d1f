"""Units of all streams into the store: in order a stream, once each, whatever the store does meanwhile."""
