"""The axes of the volumes of a case, by one rule for preparation and prediction.

A header votes for the axes that it states. It has no vote without a qform or sform code, with an
affine that cannot be inverted, or with a qform and an sform that contradict each other. Two
headers agree if they state the same axes, or different axes and the same places. More than half of
the votes of the images decide; the other images are read like them, with a note. Labels that
disagree with the images are decided by the brain, if only one reading lies in it.

A tie, or no vote at all, is refused with the readings, unless `ReadOptions.orientation` settles it.
So are headers that are the identity, which many programs write in want of one, against any other
header. Labels that their header places elsewhere, or tilts, are refused, unless they lie in the
brain only where the voxels of the images have the same numbers, whatever is chosen.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from brats_jax.data.scans.grids import (
    ORIENTATION,
    centred_affine,
    to_lps,
    voxel_sizes_mm,
)
from brats_jax.data.scans.volumes import SIZE_TOLERANCE, Volume
from brats_jax.errors import BratsError

# The axes that nibabel and most programs assume where a header has no code.
_NIFTI_DEFAULT = "LAS"
# Labels lie in the brain with at least this share; a reading that is wrong has less than that.
_INSIDE, _OUTSIDE = 0.98, 0.9
# By how much another reading must fit the brain better (Dice) to contradict the vote. A brain and
# its mirror image differ by 0.03 to 0.06.
_MARGIN = 0.02
_NEAR = 2.0  # voxels: labels that far away by their header are still on the grid of the images
_STRAIGHT = 2.0  # degrees: labels that are tilted by less are, too
_IN_WANT = "which many programs write in want of one"
# Direction -> its axis in an LPS array.
_AXES = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}


@dataclasses.dataclass(frozen=True)
class Oriented:
    """The images of a case with settled axes.

    Attributes:
      volumes: by modality; their affines are decided.
      reference: the first volume whose own header agrees with the decision, or the first.
      notes: one line for each file that is not read by its own header.
      read_as: the axes of these files, by modality.
    """

    volumes: dict[str, Volume]
    reference: Volume
    notes: list[str]
    read_as: dict[str, str]


def settle_images(
    volumes: Mapping[str, Volume], chosen: str = "", labels: Volume | None = None
) -> Oriented:
    """Decides the axes of the images of a case.

    Args:
      volumes: the images by modality.
      chosen: `ReadOptions.orientation`.
      labels: of the case; their header decides where no image has a vote.

    Raises:
      BratsError: no vote or a tie, and nothing chosen; or volumes of different sizes.
    """
    voters = [volume for volume in volumes.values() if not volume.unknown_axes]
    # The identity is often what is written in want of an affine.
    if chosen and voters and all(_is_identity(volume) for volume in voters):
        if any(volume.codes != chosen for volume in voters):
            voters = []
    elif not voters and labels is not None and not labels.unknown_axes:
        voters = [labels]
    if not voters:
        return _settled_by_choice(volumes, chosen)
    groups = _groups(voters)
    winners = groups[0]
    like = "like the other files of the case"
    if 2 * len(winners) <= len(voters):
        agreeing = [group for group in groups if chosen in {volume.codes for volume in group}]
        if not agreeing:
            raise BratsError(_tie(groups, chosen))
        winners = agreeing[0]
        like = "as --orientation says"
    elif len(groups) > 1 and not chosen and all(_is_identity(volume) for volume in winners):
        raise BratsError(_tie(groups, chosen, identity=True))
    settled: dict[str, Volume] = {}
    read_as: dict[str, str] = {}
    files: dict[tuple[str, str], list[str]] = {}
    for name, volume in volumes.items():
        if any(volume is winner for winner in winners):
            settled[name] = volume
            continue
        settled[name] = _read_like(volume, winners, chosen)
        codes = read_as[name] = settled[name].codes
        reason = (
            volume.unknown_axes or f"is {volume.codes} by its header, which its fellows contradict"
        )
        files.setdefault((reason, codes), []).append(Path(volume.path).name)
    notes = [
        f"{', '.join(names)} {reason}; read as {codes}, {like}"
        for (reason, codes), names in files.items()
    ]
    reference = next((v for v in winners if any(v is w for w in settled.values())), None)
    if reference is None:  # only the labels have a vote
        reference = next(iter(settled.values()))
    for name, volume in volumes.items():
        if name in read_as or volume.codes != reference.codes:
            _check_fit(volume, settled[name], reference, chosen)
    if chosen != reference.codes and all(_is_identity(volume) for volume in winners):
        notes.append(
            f"the affine in the headers is the identity, {_IN_WANT}; "
            f"read as {reference.codes}; if that is wrong, give --orientation"
        )
    return Oriented(settled, reference, notes, read_as)


def settle_labels(
    labels: Volume,
    images: Sequence[Volume],
    brain_of: Callable[[], np.ndarray],
    chosen: str,
    notes: list[str],
) -> np.ndarray:
    """Turns labels to the LPS grid of the images of their case.

    Args:
      labels: to turn.
      images: with settled axes, all on one grid in space.
      brain_of: returns bool[x, y, z], the brain on the LPS grid of the images.
      chosen: `ReadOptions.orientation`.
      notes: gets a line if the labels are not read by their own header alone.

    Returns:
      [x, y, z] on the LPS grid of the images.

    Raises:
      BratsError: labels of another size or grid, or a tie between two readings.
    """
    name, reference = Path(labels.path).name, images[0]
    if labels.unknown_axes:
        read = _read_like(labels, images, chosen)
        notes.append(f"{name} {labels.unknown_axes}; read as {read.codes}, like its images")
        return to_lps(read.voxels, read.affine)
    own = to_lps(labels.voxels, labels.affine)
    same_place = labels.grid.is_near(reference.grid)
    if same_place and labels.codes in {image.codes for image in images}:
        return own
    same_axes = next((image for image in images if image.codes == labels.codes), None)
    if same_axes is not None:
        _check_shapes(labels, same_axes)
        _check_same_sizes(labels, same_axes)
        found = _check_place(labels, own, reference, brain_of)
        notes.append(
            f"{name} has another affine than {Path(same_axes.path).name}; same grid{found}"
        )
        return own
    like = _read_like(labels, images, chosen)
    readings = {like.codes: to_lps(like.voxels, like.affine)}
    if own.shape == reference.grid.shape:
        readings[labels.codes] = own
    if chosen in readings:
        if chosen == labels.codes:
            _check_place(labels, own, reference, brain_of)
        notes.append(
            f"{name} is {labels.codes}, {Path(reference.path).name} is {like.codes}; read as "
            f"{chosen}, by --orientation"
        )
        return readings[chosen]
    brain = brain_of()
    count = max(1, int(np.count_nonzero(labels.voxels)))
    inside = {codes: int(np.count_nonzero((grid != 0) & brain)) for codes, grid in readings.items()}
    best = max(inside, key=inside.__getitem__)
    if same_place and (inside[labels.codes] >= _INSIDE * count or inside[best] < _INSIDE * count):
        return own  # other axes and the same places: nothing contradicts this header
    others = [share for codes, share in inside.items() if codes != best]
    if best == like.codes and not _is_identity(labels) and all(map(_is_identity, images)):
        raise BratsError(
            f"{labels.path} is {labels.codes} by its header; the affine of its images is the "
            f"identity ({like.codes}), {_IN_WANT}: give --orientation={labels.codes} or "
            f"--orientation={like.codes}, whichever is right, or repair the headers of the images"
        )
    if inside[best] < _INSIDE * count or any(share >= _OUTSIDE * count for share in others):
        found = ", ".join(f"as {codes} {share:,}" for codes, share in inside.items())
        raise BratsError(
            f"{labels.path} is {labels.codes} by its header, its images are {like.codes}, and its "
            f"place in the brain does not decide ({found} of {count:,} voxels in it): give "
            f"--orientation={like.codes} if its voxels are stored like those of the images, "
            f"--orientation={labels.codes} if its header is right, or repair the header"
        )
    if best == labels.codes:
        _check_place(labels, own, reference, lambda: brain)
    notes.append(
        f"{name} is {labels.codes}, {Path(reference.path).name} is {like.codes}; read as {best} "
        f"({inside[best]} voxels in the brain)"
    )
    return readings[best]


def _settled_by_choice(volumes: Mapping[str, Volume], chosen: str) -> Oriented:
    first = next(iter(volumes.values()))
    reason = first.unknown_axes or "is the identity by its header"
    if not chosen:
        readings = list(dict.fromkeys([*first.readings, _NIFTI_DEFAULT, ORIENTATION]))[:2]
        raise BratsError(
            f"{first.path} {reason}, and no other file of the case tells its axes, which may be "
            f"{readings[0]} or {readings[1]} (BraTS files are {ORIENTATION}): give --orientation="
            f"{readings[0]}, --orientation={readings[1]} or what they are, or repair the headers"
        )
    settled = {
        name: dataclasses.replace(
            volume,
            affine=centred_affine(chosen, voxel_sizes_mm(volume.affine), volume.voxels.shape),
            unknown_axes=volume.unknown_axes or "is the identity by its header",
        )
        for name, volume in volumes.items()
    }
    note = f"{Path(first.path).name} {reason}; its case is read as {chosen}, by --orientation"
    read_as = dict.fromkeys(volumes, chosen)
    return Oriented(settled, next(iter(settled.values())), [note], read_as)


def _groups(voters: Sequence[Volume]) -> list[list[Volume]]:
    """The voters that agree with each other, the largest group first."""
    groups: list[list[Volume]] = []
    for volume in voters:
        for group in groups:
            if any(_agree(volume, other) for other in group):
                group.append(volume)
                break
        else:
            groups.append([volume])
    return sorted(groups, key=len, reverse=True)


def _agree(one: Volume, other: Volume) -> bool:
    return one.codes == other.codes or one.grid.is_near(other.grid)


def _tie(groups: Sequence[Sequence[Volume]], chosen: str, *, identity: bool = False) -> str:
    said = "; ".join(
        f"{', '.join(Path(volume.path).name for volume in group)}: {group[0].codes}"
        for group in groups
    )
    axes = list(dict.fromkeys(group[0].codes for group in groups))
    given = f", and --orientation={chosen} is none of them" if chosen else ""
    if identity:
        given = f", and that of most is the identity, {_IN_WANT}"
    ways = " or ".join(f"--orientation={a}" for a in axes)
    return (
        f"{Path(groups[0][0].path).parent}: the headers contradict each other on the axes"
        f"{'' if identity else ', without a majority'} ({said}){given}: give {ways}, or repair the "
        "headers"
    )


def _read_like(volume: Volume, images: Sequence[Volume], chosen: str) -> Volume:
    """The volume with the affine of an image, whatever its own header says."""
    fitting = [image for image in images if image.voxels.shape == volume.voxels.shape]
    if not fitting:
        _check_shapes(volume, images[0])
        other = images[0]
        raise BratsError(
            f"{volume.path} is {volume.size_text}, {other.path} is {other.size_text}: fetch the "
            "case again"
        )
    by_codes = {image.codes: image for image in reversed(fitting)}
    if len(by_codes) > 1 and chosen not in by_codes:
        axes = list(by_codes)
        raise BratsError(
            f"{volume.path} {volume.unknown_axes or 'contradicts its fellows'}, and they are "
            f"stored as {' and as '.join(axes)}: give "
            f"{' or '.join(f'--orientation={codes}' for codes in axes)}, or repair its header"
        )
    like = by_codes[chosen] if chosen in by_codes else next(iter(by_codes.values()))
    _check_same_sizes(volume, like)
    return dataclasses.replace(volume, affine=like.affine)


def _check_shapes(volume: Volume, other: Volume) -> None:
    if volume.voxels.shape != other.voxels.shape:
        raise BratsError(
            f"{volume.path} is {volume.size_text}, {other.path} is {other.size_text}: fetch the "
            "case again"
        )


def _check_same_sizes(volume: Volume, other: Volume) -> None:
    own, theirs = (np.sort(voxel_sizes_mm(v.affine)) for v in (volume, other))
    if not np.allclose(own, theirs, rtol=SIZE_TOLERANCE, atol=0):
        raise BratsError(
            f"{volume.path} has voxels of {volume.voxel_text}, {other.path} of "
            f"{other.voxel_text}: register and resample the case"
        )


def _check_place(
    labels: Volume, own: np.ndarray, reference: Volume, brain_of: Callable[[], np.ndarray]
) -> str:
    """Refuses labels that their header places elsewhere, unless the brain contradicts the header.

    Args:
      labels: with their header.
      own: [x, y, z], turned to LPS.
      reference: an image of the case; one whose axes the user settled has no place.
      brain_of: as in `settle_labels`.

    Returns:
      The end of a note on a tilt, where the brain decides; else ''.
    """
    to_reference = np.linalg.inv(reference.grid.affine) @ labels.grid.affine
    at = np.argwhere(own)
    if not len(at) or reference.unknown_axes:
        return ""
    by_header = at @ to_reference[:3, :3].T + to_reference[:3, 3]
    tilt, moved = _tilt_degrees(to_reference), np.rint(by_header).astype(int)
    if tilt <= _STRAIGHT and not (moved - at).any():
        return ""
    brain = brain_of()
    here = int(np.count_nonzero(brain[tuple(at.T)]))
    moved = moved[((moved >= 0) & (moved < brain.shape)).all(axis=1)]
    there = int(np.count_nonzero(brain[tuple(moved.T)]))
    found = f"{there:,} of its {len(at):,} voxels are in the brain there, {here:,} on the same grid"
    if there >= _INSIDE * len(at) and here < _OUTSIDE * len(at):
        raise BratsError(
            f"{labels.path} lies elsewhere than {reference.path} by its header, and {found}: "
            "resample it to the grid of the images"
        )
    if tilt <= _STRAIGHT and np.abs(by_header - at).max() <= _NEAR:
        return ""
    sizes = np.array(voxel_sizes_mm(reference.grid.affine))
    away = f"{np.linalg.norm((by_header - at).mean(axis=0) * sizes):.0f} mm away from"
    place = away if tilt <= _STRAIGHT else f"tilted by {tilt:.0f} degrees against"
    if here >= _INSIDE * len(at) and there < _OUTSIDE * len(at):
        return "" if tilt <= _STRAIGHT else f", though {place} it by its header"
    raise BratsError(
        f"{labels.path} {'lies' if tilt <= _STRAIGHT else 'is'} {place} {reference.path} by its "
        f"header, and the brain does not decide ({found}): resample it to the grid of the images, "
        "or, if its voxels are those of the images, give it their header"
    )


def _tilt_degrees(affine: np.ndarray) -> float:
    """The largest angle by which an affine turns an axis."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arccos(np.clip(np.diag(columns), -1, 1))).max())


def _check_fit(volume: Volume, settled: Volume, reference: Volume, chosen: str) -> None:
    """Refuses a decision that the image itself contradicts."""
    if chosen == settled.codes or settled.grid.shape != reference.grid.shape:
        return
    brain = to_lps(reference.voxels, reference.affine) != 0
    mask = to_lps(settled.voxels, settled.affine) != 0
    fits = {
        "".join(_opposite(code) if steps[_AXES[code]] < 0 else code for code in settled.codes): (
            _dice(mask[tuple(slice(None, None, step) for step in steps)], brain)
        )
        for steps in itertools.product((1, -1), repeat=3)
    }
    best = max(fits, key=fits.__getitem__)
    if fits[best] > fits[settled.codes] + _MARGIN:
        raise BratsError(
            f"{volume.path} {volume.unknown_axes or f'is {volume.codes} by its header'}; read as "
            f"{settled.codes}, it fits the brain of the other files ({fits[settled.codes]:.2f}, "
            f"Dice) worse than as {best} ({fits[best]:.2f}): repair its header, or give "
            f"--orientation={settled.codes} if that is right nevertheless"
        )


def _opposite(code: str) -> str:
    return "LRPASI"["LRPASI".index(code) ^ 1]


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    both, sum_ = (one & other).sum(), one.sum() + other.sum()
    return float(2 * both / max(1, int(sum_)))


def _is_identity(volume: Volume) -> bool:
    return bool(np.array_equal(np.abs(volume.affine), np.eye(4))) and volume.codes == "RAS"
