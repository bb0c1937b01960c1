"""Readers of data sets: slices of Kaggle, NIfTI cases of any release, and the built-in phantom.

`base` defines a case and a source, `detect` finds the source for a folder.
"""
