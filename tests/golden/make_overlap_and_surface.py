"""Stores what medpy and MONAI say about a few masks: overlap_and_surface.npz.

Run in an environment of its own, which the test suite does not need:

    python -m venv golden && golden/bin/pip install torch==2.13.0 monai==1.6.1 medpy==0.5.2
    golden/bin/python tests/golden/make_overlap_and_surface.py
"""

from pathlib import Path

import numpy as np
import torch
from medpy.metric import binary
from monai.metrics import compute_average_surface_distance, compute_dice
from scipy import ndimage

SPACINGS_MM = ((1.0, 1.0), (1.5, 0.7))


def label_maps() -> tuple[np.ndarray, np.ndarray]:
    """Six pairs [48, 56] of nested blobs 0..3, some at the edge, some without a class."""
    rng = np.random.default_rng(7)
    row, column = np.mgrid[:48, :56]
    maps = []
    centres = ((24, 28), (20, 30), (3, 50), (40, 10), (24, 20), (30, 40))
    for centre, radius in zip(centres, (18, 14, 15, 16, 9, 12), strict=True):
        pair = []
        for _ in range(2):
            shift = rng.normal(0, 2, 2)
            noise = ndimage.gaussian_filter(rng.standard_normal((48, 56)), 3) * 25
            r = np.hypot(row - centre[0] - shift[0], column - centre[1] - shift[1]) + noise
            labels = np.digitize(-r, [-radius, -0.65 * radius, -0.35 * radius])
            pair.append(np.array([0, 2, 3, 1], np.uint8)[labels])
        maps.append(pair)
    prediction, target = np.moveaxis(np.array(maps), 1, 0)
    prediction[4][prediction[4] == 3] = 2  # a missed ET
    for labels in (prediction[5], target[5]):
        labels[labels == 1] = 3  # no NCR in either
    return prediction, target


def main() -> None:
    prediction, target = label_maps()
    one_hot = [
        torch.from_numpy((x[:, None] == np.arange(4)[:, None, None]).astype(np.float32))
        for x in (prediction, target)
    ]
    out = {"prediction": prediction, "target": target, "spacings_mm": np.array(SPACINGS_MM)}
    out["monai_dice_nan"] = compute_dice(*one_hot, ignore_empty=True).numpy()
    out["monai_dice_one"] = compute_dice(*one_hot, ignore_empty=False).numpy()
    pooled, directed = [], []
    for spacing in SPACINGS_MM:
        pooled.append(
            compute_average_surface_distance(
                *one_hot, include_background=True, symmetric=True, spacing=spacing
            ).numpy()
        )
        directed.append(np.full((len(prediction), 4, 2), np.nan))
        for b, k in np.ndindex(len(prediction), 4):
            p, t = prediction[b] == k, target[b] == k
            if p.any() and t.any():
                # connectivity 1: the 4-connected cross
                directed[-1][b, k, 0] = binary.asd(p, t, spacing, connectivity=1)
                directed[-1][b, k, 1] = binary.asd(t, p, spacing, connectivity=1)
    out["monai_pooled_asd"], out["medpy_directed_asd"] = np.array(pooled), np.array(directed)
    np.savez_compressed(Path(__file__).with_name("overlap_and_surface.npz"), **out)


if __name__ == "__main__":
    main()
