"""Pictures of alerts: from the ring of a stream to a file with blurred faces, and gone again when its time is up."""
