"""Evaluation of trained models on the test set of a fold, and its summary over folds."""
