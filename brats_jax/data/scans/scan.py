"""A scan for prediction: the modalities of one case on the grid of the network.

Scans must be as in BraTS: skull-stripped, 1 mm, all modalities on one grid. Others are refused, or
resampled on request. A scan knows the grid of its files, for the way back.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import DISPLAY_NAMES, MODALITIES
from brats_jax.data.normalise import brain_mask
from brats_jax.data.scans.case_files import CaseFiles, volume_of
from brats_jax.data.scans.naming import SEG
from brats_jax.data.scans.resample import Grid, resample, straight_grid
from brats_jax.data.scans.volumes import (
    Volume,
    affine_to_lps,
    from_lps,
    read_volume,
    to_lps,
    voxel_sizes_mm,
)
from brats_jax.errors import BratsError

# The largest brains with all their CSF have less than 2 litres, a head has 4 litres and more.
_LARGEST_BRAIN_ML = 2500.0
_LARGEST_TILT_DEGREES = 10.0
# The modalities of one registered, stripped head have a Dice of more than 0.95.
_LEAST_OVERLAP = 0.8


@dataclasses.dataclass(frozen=True)
class Scan:
    """One case before normalisation.

    Attributes:
      name: of the case.
      images: float32[slices, H, W, 4] intensities, modalities in canonical order; an absent
        modality is 0. H runs Left, W Posterior, slices Superior.
      present: the modalities that are not absent.
      grid: of the images: images[k, i, j] is voxel (i, j, k).
      input_grid: of the first modality's file, its axes turned to LPS.
      input_affine, header: of that file, in its own axes.
      files: the file of each modality.
      notes: changes to the scan and warnings, one line each.
    """

    name: str
    images: np.ndarray
    present: tuple[str, ...]
    grid: Grid
    input_grid: Grid
    input_affine: np.ndarray
    header: Any
    files: Mapping[str, str]
    notes: Sequence[str] = ()

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel of `images`."""
        return float(abs(np.linalg.det(self.grid.affine[:3, :3])))

    def to_input(self, volume: np.ndarray, *, nearest: bool) -> np.ndarray:
        """Returns a volume to the grid and axes of the input files.

        Args:
          volume: [slices, H, W] on the grid of `images`.
          nearest: for labels; numbers are interpolated linearly.

        Returns:
          [x, y, z].
        """
        upright = np.moveaxis(volume, 0, 2)
        return from_lps(
            resample(upright, self.grid, self.input_grid, nearest=nearest), self.input_affine
        )


def read_scan(
    case: CaseFiles,
    needed: Sequence[str],
    *,
    in_plane: tuple[int, int] | None = None,
    resampled: bool = False,
) -> Scan:
    """Reads all modalities of a case; arguments and errors as of `make_scan`."""
    if case.conflict:
        raise BratsError(case.conflict)
    paths = {name: path for name, path in case.paths.items() if name != SEG}
    _check_present(needed, paths, f"{case.folder} has")
    volumes = {name: read_volume(paths[name]) for name in MODALITIES if name in paths}
    scan = make_scan(case.name, volumes, needed, in_plane=in_plane, resampled=resampled)
    return dataclasses.replace(scan, notes=[*scan.notes, *_mixed_cases(paths)])


def _mixed_cases(paths: Mapping[str, str]) -> list[str]:
    """A warning if the names of the files belong to different cases."""
    cases: dict[str, list[str]] = {}
    for name, path in paths.items():
        if found := volume_of(Path(path)):
            cases.setdefault(found[0].case, []).append(DISPLAY_NAMES[name])
    if len({case.lower() for case in cases}) < 2:
        return []
    listed = ", ".join(f"{' and '.join(names)} of {case}" for case, names in cases.items())
    return [f"WARNING: by their names these are files of different cases ({listed})"]


def make_scan(
    name: str,
    volumes: Mapping[str, Volume],
    needed: Sequence[str],
    *,
    in_plane: tuple[int, int] | None = None,
    resampled: bool = False,
) -> Scan:
    """Puts the modalities of one case on one grid.

    Args:
      name: of the case.
      volumes: by modality. Modalities that are not needed count for the brain mask.
      needed: the inputs of the network.
      in_plane: the slice size (H, W) that the network needs; None for any.
      resampled: resample a scan that is not as in BraTS, instead of refusing it.

    Raises:
      BratsError: a modality is missing or empty, the skull is not stripped, or (unless `resampled`)
        the voxels are not as in BraTS.
    """
    _check_present(needed, volumes, "there is")
    for volume in volumes.values():
        if not volume.voxels.any():
            raise BratsError(f"{volume.path} is all zero: fetch it again or take the case away")
    names = [modality for modality in MODALITIES if modality in volumes]
    upright = {m: to_lps(volumes[m].voxels, volumes[m].affine) for m in names}
    grids = {m: _lps_grid(volumes[m]) for m in names}
    first = volumes[names[0]]
    grid = input_grid = grids[names[0]]
    apart = [m for m in names if not grids[m].is_near(grid)]
    notes = []
    if problem := _grid_problem(volumes, apart, first) or _voxel_problem(first, grid, in_plane):
        if not resampled:
            raise BratsError(
                f"{problem}: register and resample the case, or give --resample (in Python "
                "resample=True)"
            )
        if _voxel_problem(first, grid, in_plane):
            brain = upright[names[0]] != 0
            _check_fit(first, brain, grid, in_plane)
            grid = straight_grid(grid, brain, in_plane)
        notes.append(f"resampled, because {problem}")
    images = np.zeros((*grid.shape, len(MODALITIES)), dtype=np.float32)
    for m in names:
        # As in the store, grids that differ by less than 0.1 mm count as equal.
        same = grid is input_grid and m not in apart
        moved = upright[m] if same else resample(upright[m], grids[m], grid, nearest=False)
        images[..., MODALITIES.index(m)] = moved
        if m in apart:
            _check_overlap(volumes[m], moved != 0, first, images[..., MODALITIES.index(names[0])])
    scan = Scan(
        name=name,
        images=np.ascontiguousarray(np.moveaxis(images, 2, 0)),
        present=tuple(names),
        grid=grid,
        input_grid=input_grid,
        input_affine=first.affine,
        header=first.header,
        files={m: volumes[m].path for m in names},
        notes=notes,
    )
    _check_stripped(scan)
    return scan


def _check_present(needed: Sequence[str], present: Mapping[str, object], where: str) -> None:
    missing = [DISPLAY_NAMES[name] for name in needed if name not in present]
    if missing:
        raise BratsError(
            f"{where} no {' and no '.join(missing)} volume, which the model needs: add it under a "
            "BraTS name, or name the files one by one (--t1 --t1gd --t2 --flair)"
        )


def _lps_grid(volume: Volume) -> Grid:
    shape = to_lps(np.empty(volume.voxels.shape, np.bool_), volume.affine).shape
    return Grid(affine_to_lps(volume.affine, volume.voxels.shape), shape)


def _grid_problem(volumes: Mapping[str, Volume], names: Sequence[str], first: Volume) -> str:
    """The problem of modalities on different grids, or ''."""
    if not names:
        return ""
    other = volumes[names[0]]
    if other.voxels.shape != first.voxels.shape:
        return f"{other.path} is {other.size_text}, {first.path} is {first.size_text}"
    return f"{other.path} lies elsewhere than {first.path} (their affines differ)"


def _voxel_problem(volume: Volume, grid: Grid, in_plane: tuple[int, int] | None) -> str:
    """The problem of voxels that are not as in BraTS, or ''."""
    sizes = voxel_sizes_mm(grid.affine)
    if max(abs(size - 1) for size in sizes) > 0.01:
        x, y, z = voxel_sizes_mm(volume.affine)
        return f"{volume.path} has voxels of {x:.3g} x {y:.3g} x {z:.3g} mm, not of 1 mm"
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


def _check_fit(
    volume: Volume, brain: np.ndarray, grid: Grid, in_plane: tuple[int, int] | None
) -> None:
    if in_plane is None:
        return
    at = np.argwhere(brain)
    extent = (at.max(axis=0) - at.min(axis=0) + 1) * voxel_sizes_mm(grid.affine)
    if (extent[:2] > in_plane).any():
        raise BratsError(
            f"{volume.path} holds more ({extent[0]:.0f} x {extent[1]:.0f} mm) than a slice of "
            f"{in_plane[0]} x {in_plane[1]} mm: strip the skull first"
        )


def _check_overlap(volume: Volume, brain: np.ndarray, first: Volume, other: np.ndarray) -> None:
    """Refuses a modality whose header places it beside the head."""
    both = 2 * int((brain & (other != 0)).sum())
    overlap = both / max(1, int(brain.sum()) + int((other != 0).sum()))
    if overlap < _LEAST_OVERLAP:
        raise BratsError(
            f"{volume.path} and {first.path} overlap by {overlap:.2f} (Dice) where their headers "
            "place them: register them, or repair the header that is wrong"
        )


def _check_stripped(scan: Scan) -> None:
    """Refuses a scan with a skull; names the modality with most non-zero voxels."""
    brain = brain_mask(scan.images)
    volume_ml = float(brain.sum()) * scan.voxel_mm3 / 1000
    problem = ""
    if brain.all():
        problem = "has no voxel of 0 for air"
    elif volume_ml > _LARGEST_BRAIN_ML:
        problem = f"is not zero in {volume_ml:.0f} ml, more than a brain has"
    if problem:
        sizes = {m: np.count_nonzero(scan.images[..., MODALITIES.index(m)]) for m in scan.present}
        worst = max(scan.present, key=sizes.__getitem__)
        together = "" if sizes[worst] == brain.sum() else ", its case's modalities together,"
        raise BratsError(
            f"{scan.files[worst]}{together} {problem}: strip the skull first "
            "(HD-BET and SynthStrip do), with air exactly 0"
        )
