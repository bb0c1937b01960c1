"""Single scans as NIfTI files: reading, checking, resampling and writing in their own grid."""
