"""The run folder: its layout, its documents and its checkpoints."""
