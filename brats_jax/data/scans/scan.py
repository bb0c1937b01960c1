"""A scan for prediction: the modalities of one case on the grid of the network.

Scans must be as in BraTS: skull-stripped, 1 mm, all modalities on one grid. Others are refused, or
resampled on request. A scan knows the grid of its files, for the way back.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import DISPLAY_NAMES, MODALITIES, modality_of
from brats_jax.data.scans.blank_slices import areas_by_plane, note_blank_slices
from brats_jax.data.scans.case_files import CaseFiles, volume_of
from brats_jax.data.scans.checks import (
    check_stripped,
    checked_images,
    grid_problem,
    modalities_apart,
    voxel_problem,
)
from brats_jax.data.scans.contrast import exchange_note
from brats_jax.data.scans.grids import Grid, from_lps, to_lps, voxel_sizes_mm
from brats_jax.data.scans.naming import SEG, stated_volume, unknown_part
from brats_jax.data.scans.nifti_file import check_case_size
from brats_jax.data.scans.options import ReadOptions, check_case_bytes
from brats_jax.data.scans.resample import resample, straight_grid
from brats_jax.data.scans.volumes import Volume, read_channels, read_volume, volume_of_header
from brats_jax.errors import BratsError
from brats_jax.runtime import threads

# The modalities of one registered, stripped head have a Dice of more than 0.95.
_LEAST_OVERLAP = 0.8

WARNING = "WARNING: "  # begins notes on names of files that contradict each other


@dataclasses.dataclass(frozen=True)
class Scan:
    """One case before normalisation.

    Attributes:
      name: of the case.
      images: float32[slices, H, W, 4] intensities, modalities in canonical order; an absent
        modality is 0. H runs Left, W Posterior, slices Superior.
      present: the modalities that are not absent.
      grid: of the images: images[k, i, j] is voxel (i, j, k).
      input_grid: of the reference file (the first modality whose header tells its axes), its
        axes turned to LPS.
      input_affine, header: of that file, in its own axes.
      files: the file of each modality.
      notes: changes to the scan and warnings, one line each.
      file_affine: `input_affine` as the file has it, in the unit of its header; None if equal.
      options: how the files were read.
      unknown_axes: why the header of the reference file defines no place; '' if it does.
      synthetic: absent modalities that a network fills in.
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
    file_affine: np.ndarray | None = None
    options: ReadOptions = ReadOptions()  # noqa: RUF009, immutable
    unknown_axes: str = ""
    synthetic: tuple[str, ...] = ()

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
    options: ReadOptions = ReadOptions(),  # noqa: B008, immutable
    leave_out: Collection[str] = (),
    remedy: str = "",
) -> Scan:
    """Reads the modalities of a case; arguments and errors as in `make_scan`.

    The files of those to `leave_out` are not opened. `remedy` ends the message about a missing one.
    """
    if case.conflict:
        raise BratsError(case.conflict)
    paths = {
        name: path for name, path in case.paths.items() if name != SEG and name not in leave_out
    }
    if lacking := [name for name in needed if name not in paths]:
        _check_present(needed, paths, f"{case.folder} has", remedy, _unknown_file(case, lacking))
    check_case_size({*paths.values()}, options.max_case_gb)
    if case.channels:
        every = read_channels(next(iter(paths.values())), case.channels, options)
        volumes = {name: volume for name, volume in every.items() if name not in leave_out}
    else:
        names = [name for name in MODALITIES if name in paths]
        read = threads.parallel_map(lambda name: read_volume(paths[name], options), names)
        volumes = dict(zip(names, read, strict=True))
    scan = make_scan(
        case.name, volumes, needed, in_plane=in_plane, resampled=resampled, options=options
    )
    return dataclasses.replace(scan, notes=[*scan.notes, *_mixed_cases(paths)])


def check_headers(
    case: CaseFiles,
    *,
    in_plane: tuple[int, int] | None = None,
    resampled: bool = False,
    options: ReadOptions = ReadOptions(),  # noqa: B008, immutable
    leave_out: Collection[str] = (),
) -> None:
    """Refuses a case by the headers of its files, if these alone show that `read_scan` would.

    Arguments as in `read_scan`. Files whose headers do not settle the axes are not refused.

    Raises:
      BratsError: files of two cases, a header that cannot be read, a case that is too large, or
        (unless `resampled`) voxels that are not as in BraTS.
    """
    if case.conflict:
        raise BratsError(case.conflict)
    paths = {m: case.paths[m] for m in MODALITIES if m in case.paths and m not in leave_out}
    check_case_size({*paths.values()}, options.max_case_gb)
    if case.channels or resampled:
        return
    found = {name: volume_of_header(path, options) for name, path in paths.items()}
    volumes = {name: volume for name, volume in found.items() if volume is not None}
    first = next(iter(volumes.values()), None)
    if first is None or len(volumes) < len(found) or options.orientation:
        return
    if any(one.unknown_axes or one.codes != first.codes for one in volumes.values()):
        return
    _check_voxels(volumes, modalities_apart(volumes, first), first, in_plane)


def _check_voxels(
    volumes: Mapping[str, Volume],
    apart: Sequence[str],
    first: Volume,
    in_plane: tuple[int, int] | None,
    *,
    resampled: bool = False,
) -> str:
    """The problem of voxels that are not as in BraTS, or ''; unless `resampled` it is an error."""
    problem = grid_problem(volumes, apart, first) or voxel_problem(first, first.grid, in_plane)
    if problem and not resampled:
        raise BratsError(
            f"{problem}: register and resample the case, or give --resample (in Python "
            "resample=True)"
        )
    return problem


def _mixed_cases(paths: Mapping[str, str]) -> list[str]:
    """A warning if the names of the files belong to different cases."""
    cases: dict[str, list[str]] = {}
    for name, path in paths.items():
        found = volume_of(Path(path))
        if found and not found[0].visit:
            cases.setdefault(found[0].case, []).append(DISPLAY_NAMES[name])
    if len({case.lower() for case in cases}) < 2:
        return []
    listed = ", ".join(f"{' and '.join(names)} of {case}" for case, names in cases.items())
    return [f"{WARNING}by their names these are files of different cases ({listed})"]


def _contradicting_names(volumes: Mapping[str, Volume]) -> list[str]:
    """A warning if the names of files state other modalities than they were given for."""
    found = []
    for name, volume in volumes.items():
        file = Path(volume.path).name
        stated = stated_volume(file)
        if stated not in (None, name):
            what = "holds labels" if stated == SEG else f"is {DISPLAY_NAMES[str(stated)]}"
            found.append(f"{file} was given as {DISPLAY_NAMES[name]} and {what} by its name")
    several = len({volume.path for volume in volumes.values()}) == len(volumes)
    return [WARNING + "; ".join(found)] if found and several else []  # not of channels of one file


def make_scan(
    name: str,
    volumes: Mapping[str, Volume],
    needed: Sequence[str],
    *,
    in_plane: tuple[int, int] | None = None,
    resampled: bool = False,
    options: ReadOptions = ReadOptions(),  # noqa: B008, immutable
) -> Scan:
    """Puts the modalities of one case on one grid.

    Args:
      name: of the case.
      volumes: by modality. Modalities that are not needed count for the brain mask.
      needed: the inputs of the network.
      in_plane: the slice size (H, W) that the network needs; None for any.
      resampled: resample a scan that is not as in BraTS, instead of refusing it.
      options: the axes of files whose headers do not tell them, and the largest size.

    Raises:
      BratsError: a modality is missing or empty, the axes are not known, the skull is not
        stripped, or (unless `resampled`) the voxels are not as in BraTS.
    """
    _check_present(needed, volumes, "there is")
    oriented = checked_images({m: volumes[m] for m in MODALITIES if m in volumes}, options)
    volumes, first, notes = oriented.volumes, oriented.reference, list(oriented.notes)
    names = list(volumes)
    notes += _contradicting_names(volumes)
    upright = {m: to_lps(volumes[m].voxels, volumes[m].affine) for m in names}
    grids = {m: volumes[m].grid for m in names}
    grid = input_grid = first.grid
    apart = modalities_apart(volumes, first)
    if problem := _check_voxels(volumes, apart, first, in_plane, resampled=resampled):
        if voxel_problem(first, grid, in_plane):
            brain = to_lps(first.voxels, first.affine) != 0
            _check_extent(first, brain, grid, in_plane)
            grid = straight_grid(grid, brain, in_plane)
            size = 4 * len(MODALITIES) * int(np.prod([float(n) for n in grid.shape]))
            check_case_bytes(first.path, size, options.max_case_gb)
        notes.append(f"resampled, because {problem}")
    height, width, depth = grid.shape
    stacked = np.zeros((depth, height, width, len(MODALITIES)), dtype=np.float32)
    for m in names:
        # As in the store, grids that differ by less than 0.1 mm count as equal.
        same = grid is input_grid and m not in apart
        moved = upright[m] if same else resample(upright[m], grids[m], grid, nearest=False)
        _fill(stacked[..., MODALITIES.index(m)], moved)
        if m in apart:
            own = resample(to_lps(first.voxels, first.affine), input_grid, grid, nearest=False)
            _check_overlap(volumes[m], moved != 0, first, own)
    of_channel = {MODALITIES.index(m): volumes[m].path for m in names}
    check_stripped(stacked, grid, of_channel)
    note_blank_slices(areas_by_plane(stacked), of_channel, notes)
    if exchanged := exchange_note(stacked, {m: Path(volumes[m].path).name for m in names}):
        notes.append(WARNING + exchanged)
    return Scan(
        name=name,
        images=stacked,
        present=tuple(names),
        grid=grid,
        input_grid=input_grid,
        input_affine=first.affine,
        header=first.header,
        files={m: volumes[m].path for m in names},
        notes=notes,
        file_affine=first.file_affine,
        options=options,
        unknown_axes=first.unknown_axes,
    )


def _fill(channel: np.ndarray, volume: np.ndarray) -> None:
    """Copies a volume [H, W, D] into channel[D, H, W], slice by slice in threads."""

    def copy(block: slice) -> None:
        for k in range(block.start, block.stop):
            channel[k] = volume[..., k]

    threads.parallel_map(copy, threads.split_range(len(channel)))


def _check_present(
    needed: Sequence[str],
    present: Mapping[str, object],
    where: str,
    remedy: str = "",
    perhaps: str = "",
) -> None:
    missing = [DISPLAY_NAMES[name] for name in needed if name not in present]
    if missing:
        raise BratsError(
            f"{where} no {' and no '.join(missing)} volume, which the model needs{perhaps}: add it "
            f"under a BraTS name{remedy}"
        )


def _unknown_file(case: CaseFiles, lacking: Sequence[str]) -> str:
    """A file of a case that has a word for a lacking modality, and is not understood; or ''."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(case.folder)):
            words = {modality_of(word) for word in re.split(r"[\s._-]+", name) if word}
            if name.startswith(case.name) and words & {*lacking} and (why := unknown_part(name)):
                return f" (in '{name}', {why})"
    return ""


def _check_extent(
    volume: Volume, brain: np.ndarray, grid: Grid, in_plane: tuple[int, int] | None
) -> None:
    if in_plane is None:
        return
    at = np.argwhere(brain)
    extent = (at.max(axis=0) - at.min(axis=0) + 1) * voxel_sizes_mm(grid.affine)
    if (extent[:2] > in_plane).any():
        raise BratsError(
            f"{volume.path} holds more ({extent[0]:.0f} x {extent[1]:.0f} mm) than a slice of "
            f"the model, {in_plane[0]} x {in_plane[1]} mm: strip the skull, or train a model with "
            "larger slices"
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
