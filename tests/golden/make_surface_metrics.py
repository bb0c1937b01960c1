"""Stores what medpy, MONAI and DeepMind say about masks in 2D and 3D: surface_metrics.npz.

Run in an environment of its own, which the test suite does not need; the real cases are
those under BRATS_REAL_DATA, of which numbers alone are kept:

    python -m venv golden && golden/bin/pip install torch==2.15.0 monai==1.6.1 medpy==0.5.2 \
        surface-distance==0.1 nibabel
    BRATS_REAL_DATA=DIR golden/bin/python tests/golden/make_surface_metrics.py
"""

import os
from pathlib import Path

import numpy as np
import surface_distance
import torch
from medpy.metric import binary
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from real_cases import REGIONS, masks, pairs
from scipy import ndimage

np.Inf = np.inf  # surface-distance 0.1 was written for NumPy 1

# By dimensions. The tolerance is no sum of grid steps, so that rounding decides nowhere.
SPACINGS_MM = {2: ((1.0, 1.0), (1.5, 0.7)), 3: ((1.0, 1.0, 1.0), (0.7, 1.2, 2.5))}
TOLERANCE_MM = 1.6
NAMES = (
    "medpy_asd_pred_to_gt",
    "medpy_asd_gt_to_pred",
    "medpy_assd",
    "medpy_hd95",
    "monai_hd95_pred_to_gt",
    "monai_hd95_gt_to_pred",
    "monai_hd95",
    "monai_pooled_asd",
    "monai_nsd",
    "deepmind_hd95",
    "deepmind_nsd",
)


def label_volumes() -> tuple[np.ndarray, np.ndarray]:
    """Four pairs [26, 30, 18] of nested blobs 0..3, one at the edge, some without ET."""
    rng = np.random.default_rng(11)
    grid = np.mgrid[:26, :30, :18]
    maps = []
    centres = ((13, 15, 9), (4, 25, 15), (14, 12, 8), (12, 18, 9))
    for centre, radius in zip(centres, (9, 8, 7, 8), strict=True):
        pair = []
        for _ in range(2):
            shift = rng.normal(0, 1.2, 3)
            noise = ndimage.gaussian_filter(rng.standard_normal(grid.shape[1:]), 2) * 25
            r = np.sqrt(sum((g - c - s) ** 2 for g, c, s in zip(grid, centre, shift, strict=True)))
            labels = np.digitize(-r - noise, [-radius, -0.7 * radius, -0.45 * radius])
            pair.append(np.array([0, 2, 3, 1], np.uint8)[labels])
        maps.append(pair)
    prediction, target = np.moveaxis(np.array(maps), 1, 0)
    prediction[2][prediction[2] == 3] = 2  # a missed ET
    for labels in (prediction[3], target[3]):
        labels[labels == 3] = 1  # no ET in either
    return prediction, target


def numbers(p: np.ndarray, t: np.ndarray, spacing: tuple[float, ...]) -> list[float]:
    """The values of `NAMES` for two masks; NaN for a distance where either is empty."""
    p_torch, t_torch = (torch.from_numpy(m[None, None].astype(np.float32)) for m in (p, t))
    nsd = compute_surface_dice(
        p_torch, t_torch, [TOLERANCE_MM], include_background=True, spacing=spacing
    )
    if not (p.any() and t.any()):
        return [np.nan] * 8 + [float(nsd)] + [np.nan] * 2

    def hausdorff(a: torch.Tensor, b: torch.Tensor, directed: bool) -> float:
        return float(
            compute_hausdorff_distance(
                a, b, include_background=True, percentile=95, directed=directed, spacing=spacing
            )
        )

    deepmind = surface_distance.compute_surface_distances(t, p, spacing)
    return [
        # connectivity 1: the cross
        binary.asd(p, t, spacing, connectivity=1),
        binary.asd(t, p, spacing, connectivity=1),
        binary.assd(p, t, spacing, connectivity=1),
        binary.hd95(p, t, spacing, connectivity=1),
        hausdorff(p_torch, t_torch, True),
        hausdorff(t_torch, p_torch, True),
        hausdorff(p_torch, t_torch, False),
        float(
            compute_average_surface_distance(
                p_torch, t_torch, include_background=True, symmetric=True, spacing=spacing
            )
        ),
        float(nsd),
        surface_distance.compute_robust_hausdorff(deepmind, 95),
        surface_distance.compute_surface_dice_at_tolerance(deepmind, TOLERANCE_MM),
    ]


def main() -> None:
    here = Path(__file__).parent
    slices = np.load(here / "overlap_and_surface.npz")
    sets = {2: (slices["prediction"], slices["target"]), 3: label_volumes()}
    out: dict[str, np.ndarray] = {"names": np.array(NAMES), "tolerance_mm": np.array(TOLERANCE_MM)}
    for dims, (prediction, target) in sets.items():
        out[f"prediction_{dims}d"], out[f"target_{dims}d"] = prediction, target
        out[f"spacings_mm_{dims}d"] = np.array(SPACINGS_MM[dims])
        out[f"values_{dims}d"] = np.array(
            [
                [
                    [numbers(p, t, s) for p, t in zip(masks(a), masks(b), strict=True)]
                    for a, b in zip(prediction, target, strict=True)
                ]
                for s in SPACINGS_MM[dims]
            ]
        )  # [spacing, pair, region, name]
    cases = []
    for case, prediction, target in pairs(os.environ["BRATS_REAL_DATA"]):
        cases.append(case)
        out[f"values_{case}"] = np.array(
            [
                numbers(p, t, (1.0, 1.0, 1.0))
                for p, t in zip(masks(prediction), masks(target), strict=True)
            ]
        )
        print(case, dict(zip(REGIONS, out[f"values_{case}"][:, 3], strict=True)), flush=True)
    out["cases"] = np.array(cases)
    np.savez_compressed(here / "surface_metrics.npz", **out)


if __name__ == "__main__":
    main()
