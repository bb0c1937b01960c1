"""Predictions made of real segmentations, for the stored numbers and for the tests alike."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}


def pairs(root: str | Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(case, prediction, target) for every case under `root`: uint8[240, 240, 155] labels 0..3.

    The prediction is the truth shifted by (3, -2, 1) voxels and stripped of its outermost
    layer, with two false lesions of ET, one large and one of a single voxel.
    """
    for path in sorted(Path(root).rglob("*_seg.nii.gz")):
        target = np.asarray(nibabel.load(path).dataobj).astype(np.uint8)
        target[target == 4] = 3
        prediction = np.roll(target, (3, -2, 1), (0, 1, 2))
        prediction[~ndimage.binary_erosion(prediction > 0)] = 0
        prediction[20:26, 20:26, 20:26] = 3
        prediction[5, 5, 5] = 3
        yield path.name.removesuffix("_seg.nii.gz"), prediction, target


def stored(root: str | Path, golden: Mapping[str, np.ndarray]) -> list[str]:
    """The cases under `root`, in their order, of which `golden` has the numbers; one at least."""
    paths = sorted(Path(root).rglob("*_seg.nii.gz"))
    names = [path.name.removesuffix("_seg.nii.gz") for path in paths]
    found = [name for name in names if name in golden["cases"]]
    assert found, f"{root} has none of the cases that numbers are stored of"
    return found


def masks(labels: np.ndarray) -> np.ndarray:
    """bool[3, ...]: the regions of a label map, in the order of `REGIONS`."""
    return np.stack([np.isin(labels, region) for region in REGIONS.values()])
