"""Experiments and grids of them: settings, folds, and the order in which they run."""
