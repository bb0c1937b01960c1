"""Air in skull-stripped images: recognised along the edges of the volume, and set to exactly 0."""

import dataclasses
from pathlib import Path

import numpy as np

from brats_jax.data.scans.volumes import Volume
from brats_jax.errors import BratsError

# Air up to this share of the bright end of an image is noise.
_NOISE = 0.01
# All of the air may be noisier than its edges.
_HEADROOM = 2.0
# A brain that touches the edge of a tight volume has less than this share of the edges.
_TOUCHING = 0.05


def with_air_zero(volume: Volume, notes: list[str]) -> Volume:
    """The volume with air of exactly 0.

    Air of one constant, or noise of at most 1 % of the bright end of the image, is set to 0.

    Args:
      volume: an image that is not constant.
      notes: gets a line on what was set to 0.

    Raises:
      BratsError: air that is neither, or that is brighter than most of the brain.
    """
    voxels = volume.voxels
    edges = _edges(voxels)
    if not edges.any():  # nearly every file
        return volume
    low, high = edges.min(), edges.max()
    if low == high:
        air = voxels == low
        rest = voxels[~air]
        dark = float(np.percentile(rest, 5))
        if dark <= 0:
            raise BratsError(
                f"{volume.path} has air of {low:g} and a brain from {dark:g} (5th percentile), "
                "darker than air of 0 would be: shift its intensities so that air is 0"
            )
        if rest.min() < low < rest.max():
            air = _without_brain(air, rest, float(low))
        kind = f"air of {low:g}"
    elif (most := float(np.abs(edges).max())) <= _NOISE * _bright_end(voxels):
        air = np.abs(voxels) <= _HEADROOM * most
        kind = f"noise in air (up to {most:.2g} along the edges)"
    elif np.count_nonzero(edges) <= _TOUCHING * edges.size:
        return volume
    else:
        raise BratsError(
            f"{volume.path} has air that is neither 0 nor one value ({low:g} to {high:g} along the "
            "edges of the volume): strip the skull first (HD-BET and SynthStrip do), with air "
            "exactly 0"
        )
    count = int(np.count_nonzero(air & (voxels != 0)))
    notes.append(f"{Path(volume.path).name} has {kind}; set to 0 in {count:,} voxels")
    return dataclasses.replace(volume, voxels=np.where(air, voxels.dtype.type(0), voxels))


def _edges(voxels: np.ndarray) -> np.ndarray:
    """The voxels along the twelve edges of the volume, where no brain is."""
    ends = (0, -1)
    return np.concatenate(
        [voxels[:, j, k] for j in ends for k in ends]
        + [voxels[i, :, k] for i in ends for k in ends]
        + [voxels[i, j, :] for i in ends for j in ends]
    )


def _bright_end(voxels: np.ndarray) -> float:
    """The 99th percentile of a sample of the brighter half."""
    sample = np.abs(voxels[::2, ::2, ::2].astype(np.float64)).ravel()
    return float(np.percentile(sample[sample >= np.median(sample)], 99))


def _without_brain(air: np.ndarray, rest: np.ndarray, value: float) -> np.ndarray:
    """The air without voxels of the brain that have its value by chance.

    Args:
      air: bool[x, y, z], the voxels with this value.
      rest: the values of the others.
      value: of the air.
    """
    from scipy import ndimage  # here, because few files need it

    parts, _ = ndimage.label(air)
    outside = np.isin(parts, np.unique(_edges(parts))) & air
    by_chance = np.count_nonzero(np.abs(rest.astype(np.float64) - value) == 1) / 2
    holes = np.count_nonzero(air) - np.count_nonzero(outside)
    return air if holes > by_chance else outside
