"""Single scans as NIfTI files: names, labels, reading, checking, resampling and writing.

A file name of another release goes into `naming`, its label values into `labels`.
"""
