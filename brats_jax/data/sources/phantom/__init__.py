"""Synthetic patients that look like BraTS, for tests and demos.

A case is a pure function of (seed, patient).
"""
