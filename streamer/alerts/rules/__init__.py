"""Rules over the feed: what fires, what is over, and when it is quiet. Pure."""
