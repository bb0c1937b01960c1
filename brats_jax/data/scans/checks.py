"""The checks of the images of a case, the same for preparation and prediction.

Images must be as in BraTS: skull-stripped with air of exactly 0, voxels of 1 mm, all modalities on
one grid.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brats_jax.data.scans import orientation
from brats_jax.data.scans.air import with_air_zero
from brats_jax.data.scans.grids import Grid, voxel_sizes_mm
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.scans.orientation import Oriented
from brats_jax.data.scans.volumes import SIZE_TOLERANCE, Volume
from brats_jax.errors import BratsError
from brats_jax.runtime import threads

# The largest brains with all their CSF have less than 2 litres, a head has 4 litres and more.
_LARGEST_BRAIN_ML = 2500.0
# In one slice the largest brains have 200 cm², heads 280 cm², and a slice of noise 576 cm².
_LARGEST_SLICE_MM2 = 30_000.0
_LARGEST_TILT_DEGREES = 10.0


def checked_images(
    volumes: Mapping[str, Volume], options: ReadOptions, labels: Volume | None = None
) -> Oriented:
    """The images of a case with settled axes and air of 0.

    Args:
      volumes: the images by modality.
      options: the user's choices.
      labels: of the case, if any; their header counts where no image's does.

    Raises:
      BratsError: an image that is 0 or constant everywhere; air that cannot be told; axes that
        cannot be settled.
    """
    for volume in volumes.values():
        low, high = volume.voxels.min(), volume.voxels.max()
        if low == high:
            state = "is all zero" if low == 0 else f"is constant, {low:g} everywhere"
            raise BratsError(
                f"{volume.path} {state}: fetch it again, or take its file away (the case then "
                "counts as without this modality)"
            )
    notes = _copies(volumes)
    cleaned = {name: with_air_zero(volume, notes) for name, volume in volumes.items()}
    found = orientation.settle_images(cleaned, options.orientation, labels)
    return dataclasses.replace(found, notes=[*found.notes, *notes])


def _copies(volumes: Mapping[str, Volume]) -> list[str]:
    """A line for each pair of modalities with the same voxels."""
    return [
        f"{Path(one.path).name} and {Path(other.path).name} have the same voxels: one is a copy; "
        "fetch the other modality, or take its file away"
        for one, other in itertools.combinations(volumes.values(), 2)
        if np.array_equal(one.voxels[::9, ::9, ::9], other.voxels[::9, ::9, ::9])
        and np.array_equal(one.voxels, other.voxels)
    ]


def modalities_apart(volumes: Mapping[str, Volume], reference: Volume) -> list[str]:
    """The modalities whose grid is not that of the reference."""
    grid = reference.grid
    return [name for name, volume in volumes.items() if not volume.grid.is_near(grid)]


def grid_problem(volumes: Mapping[str, Volume], apart: Sequence[str], reference: Volume) -> str:
    """The problem of modalities on different grids, or ''.

    Args:
      volumes: the images by modality.
      apart: of `modalities_apart`.
      reference: the volume that the others are compared to.
    """
    if not apart:
        return ""
    other = volumes[apart[0]]
    if other.grid.shape != reference.grid.shape:
        return f"{other.path} is {other.size_text}, {reference.path} is {reference.size_text}"
    own, theirs = (voxel_sizes_mm(volume.grid.affine) for volume in (other, reference))
    if not np.allclose(own, theirs, rtol=SIZE_TOLERANCE, atol=0):
        return (
            f"{other.path} has voxels of {other.voxel_text}, {reference.path} of "
            f"{reference.voxel_text}"
        )
    return f"{other.path} lies elsewhere than {reference.path} (their affines differ)"


def voxel_problem(volume: Volume, grid: Grid, in_plane: tuple[int, int] | None) -> str:
    """The problem of voxels that are not as in BraTS, or ''.

    Args:
      volume: the reference image.
      grid: its grid.
      in_plane: the slice size (H, W) that is needed; None for any.
    """
    sizes = voxel_sizes_mm(grid.affine)
    if max(abs(size - 1) for size in sizes) > 0.01:
        return f"{volume.path} has voxels of {volume.voxel_text}, not of 1 mm"
    cosines = np.abs(np.diag(grid.affine[:3, :3]) / sizes)
    tilt = float(np.degrees(np.arccos(min(1.0, cosines.min()))))
    if tilt > _LARGEST_TILT_DEGREES:
        return f"{volume.path} is tilted by {tilt:.0f} degrees from the axes of the body"
    if in_plane is not None and grid.shape[:2] != tuple(in_plane):
        own, wanted = (f"{h} x {w}" for h, w in (grid.shape[:2], in_plane))
        return (
            f"{volume.path} has slices of {own}, the model was trained on {wanted} (it normalises "
            "by slice, air included)"
        )
    return ""


def check_stripped(images: np.ndarray, grid: Grid, files: Mapping[int, str]) -> None:
    """Refuses images with a skull or noise in air, and masks in place of images.

    Args:
      images: real[slices, H, W, C].
      grid: of the images.
      files: the file of each channel that is present.

    Raises:
      BratsError: names the modality with most non-zero voxels.
    """
    area = np.empty(len(images), np.int64)

    def measure(block: slice) -> None:
        for k in range(block.start, block.stop):
            area[k] = np.count_nonzero((images[k] != 0).any(axis=-1))

    threads.parallel_map(measure, threads.split_range(len(images)))
    voxel_mm3 = float(abs(np.linalg.det(grid.affine[:3, :3])))
    volume_ml = float(area.sum()) * voxel_mm3 / 1000
    slice_mm2 = float(area.max()) * voxel_mm3 / voxel_sizes_mm(grid.affine)[2]
    problem = ""
    if area.sum() == images[..., 0].size:
        problem = "has no voxel of 0 for air"
    elif volume_ml > _LARGEST_BRAIN_ML:
        problem = f"is not zero in {volume_ml:.0f} ml, more than a brain has"
    elif slice_mm2 > _LARGEST_SLICE_MM2:
        problem = f"is not zero in {slice_mm2 / 100:.0f} cm² of one slice, more than a brain has"
    if problem:
        sizes = {channel: np.count_nonzero(images[..., channel]) for channel in files}
        worst = max(files, key=sizes.__getitem__)
        together = "" if sizes[worst] == area.sum() else ", its case's modalities together,"
        raise BratsError(
            f"{files[worst]}{together} {problem}: strip the skull first "
            "(HD-BET and SynthStrip do), with air exactly 0"
        )
    for channel, file in files.items():
        _check_contrast(images[..., channel], file)


def _check_contrast(image: np.ndarray, file: str) -> None:
    """Refuses an image that has one value wherever it is not 0."""
    for part in (image[len(image) // 2], image):  # one slice shows it in nearly every image
        values = part[part != 0]
        if values.size and values.min() != values.max():
            return
    raise BratsError(
        f"{file} is a mask, {values[0] if values.size else 0:g} wherever it is not 0, and no "
        "image: fetch it again or take the case away"
    )
