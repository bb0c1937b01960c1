"""What runs leave on disk: the layout of their folders, their documents and checkpoints."""
