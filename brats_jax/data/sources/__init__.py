"""Readers of data sets: Kaggle slices, NIfTI cases of any release, and the built-in phantom.

Each yields cases with named modalities, and labels where there are any.
"""
