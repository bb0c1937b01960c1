"""Readers of data sets: Kaggle slices, NIfTI cases of any release, and the built-in phantom.

`base` defines a case and a source, `detect` finds the source for a folder.
"""
