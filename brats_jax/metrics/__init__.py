"""Metrics: overlap and lesions of masks, surface distances, image similarity, calibration.

Arrays in, arrays out; labels and regions are arguments (their names are in `data.modalities`).
"""
