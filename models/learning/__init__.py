"""Learning: from clips with labels to a checkpoint that serves live."""
