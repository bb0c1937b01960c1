"""Checks that the labels of a case belong to its images."""

import hashlib
from collections.abc import Mapping

import numpy as np

from brats_jax.data import crops
from brats_jax.data.crops import Crops
from brats_jax.data.scans.naming import SEG
from brats_jax.data.sources.base import Case
from brats_jax.errors import BratsError

# Right cases have at most one voxel per thousand there.
MOST_IN_AIR = 0.02
MOST_OF_BRAIN = 0.8
_FEW_VOXELS = 10  # of a tiny tumour at the edge of the head


def check_in_brain(case: Case, images: Crops, labels: np.ndarray) -> None:
    """Refuses labels of which more than 2 % lie in air, and masks of the brain.

    Args:
      case: for the message.
      images: normalised, in boxes that contain all labels. Air has the background of its slice.
      labels: uint8[pixels] in the same boxes.

    Raises:
      BratsError: names the file of the labels.
    """
    count = int(np.count_nonzero(labels))
    in_air = brain = 0
    parts = zip(images.boxed(), crops.split(labels, images.boxes), images.background, strict=True)
    for pixels, label, background in parts:
        where = label != 0
        if count:
            brain += int((pixels != background).any(axis=-1).sum())
        if where.any():
            in_air += int((pixels[where] == background).all(axis=-1).sum())
    files = case.provenance.get("files")
    name = (files.get(SEG) if isinstance(files, Mapping) else None) or case.patient
    if count and count - in_air > MOST_OF_BRAIN * brain:
        raise BratsError(
            f"{name}: its labels fill {count / max(brain, 1):.0%} of the brain, so they are a mask "
            "of the brain, not of a tumour: put the labels of the tumour there, or take the case "
            "away"
        )
    if in_air > max(_FEW_VOXELS, MOST_IN_AIR * count):
        raise BratsError(
            f"{name}: {in_air / count:.0%} of its {count:,} label voxels lie in "
            "air, so they belong to other images or are turned against them: put the labels of "
            "this case there, or take the case away"
        )


def tumour_hash(labels: np.ndarray) -> str:
    """SHA-256 of the places and classes of the tumour in uint8[slices, H, W]; '' without one."""
    at = np.flatnonzero(labels)
    if not at.size:
        return ""
    digest = hashlib.sha256(str(labels.shape).encode())
    digest.update(at.astype("<i8").tobytes())
    digest.update(labels.ravel()[at].tobytes())
    return digest.hexdigest()
