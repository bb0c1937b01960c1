"""From files on disk to batches of patches.

`sources` and `scans` read files, `store` keeps prepared data, `pipeline` yields batches.
"""
