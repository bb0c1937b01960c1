"""From files on disk to batches of patches."""
