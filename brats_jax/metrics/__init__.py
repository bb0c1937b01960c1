"""Overlap, surface and image metrics: pure, jitted, batched."""
