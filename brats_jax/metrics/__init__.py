"""Evaluation metrics: overlap of masks, distances between boundaries, likeness of images."""
