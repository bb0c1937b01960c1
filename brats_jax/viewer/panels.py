"""Panels of slices: predicted images, segmentations, and the data.

Each panel takes dataclasses of arrays. `slices` documents the orientation and the grey window of a
slice, and writes figures as PNG.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES, MODALITIES
from brats_jax.errors import BratsError
from brats_jax.viewer.slices import (
    bare_figure,
    common_windows,
    draw_slice,
    head_mask,
    name_row,
    overlay_labels,
)


@dataclasses.dataclass(frozen=True)
class ReconstructionRow:
    """One slice of `reconstruction_drawing`.

    Attributes:
      patient, slice_number: the label of the row.
      inputs: float[H, W] by modality, in the order of the columns (t1, t1gd).
      target, prediction: float[H, W] of the target modality, on one scale.
      ssim: of this slice; the panel's `note` names the convention.
    """

    patient: str
    slice_number: int
    inputs: Mapping[str, np.ndarray]
    target: np.ndarray
    prediction: np.ndarray
    ssim: float


@dataclasses.dataclass(frozen=True)
class SegmentationRow:
    """One slice of `segmentation_drawing`.

    Attributes:
      patient, slice_number: the label of the row.
      images: float[H, W] by modality, one column each; the first is also drawn under the labels.
      truth, prediction: integer[H, W] labels as in `modalities.CLASSES`.
      dice: by class name ('NCR/NET', 'ED', 'ET') or region; None or NaN where undefined.
    """

    patient: str
    slice_number: int
    images: Mapping[str, np.ndarray]
    truth: np.ndarray
    prediction: np.ndarray
    dice: Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class DatasetRow:
    """One slice of `dataset_drawing`: float[H, W, 4] in canonical order, integer[H, W] labels."""

    patient: str
    slice_number: int
    images: np.ndarray
    labels: np.ndarray


def reconstruction_drawing(
    path: str | Path,
    rows: Sequence[ReconstructionRow],
    target_modality: str = "flair",
    note: str = "",
) -> Figure:
    """Draws inputs, target and prediction side by side, one slice per row (the paper's Figure 6).

    Args:
      path: of the picture, for the message of an error.
      rows: at least one; all with the same input modalities.
      target_modality: the predicted modality.
      note: text below the figure, e.g. the convention of the SSIM.

    Raises:
      BratsError: no rows, or arrays of different shapes.
    """
    names = _common_names(path, [row.inputs for row in rows])
    shown = DISPLAY_NAMES[target_modality]
    for row in rows:
        _check_shape(path, row, row.target.shape, *row.inputs.values(), row.prediction)
    heads = [head_mask([*row.inputs.values(), row.target]) for row in rows]
    windows = common_windows(heads)
    figure, grid = bare_figure(len(rows), len(names) + 2, windows[0], note)
    for line, (row, axes) in enumerate(zip(rows, grid, strict=True)):
        head, window = heads[line], windows[line]
        for axis, name in zip(axes, names, strict=False):
            draw_slice(axis, row.inputs[name], head, window)
        # One grey scale for both, so that equal values look equal.
        draw_slice(axes[-2], row.target, head, window)
        draw_slice(axes[-1], row.prediction, head, window, like=row.target)
        axes[-1].set_xlabel(f"SSIM {row.ssim:.3f}")
        name_row(axes[0], row.patient, row.slice_number)
    for axis, name in zip(grid[0], names, strict=False):
        axis.set_title(DISPLAY_NAMES[name] + (" (input)" if name == target_modality else ""))
    grid[0, -2].set_title(shown + (" (target)" if target_modality in names else ""))
    grid[0, -1].set_title(f"predicted {shown}")
    return figure


def segmentation_drawing(
    path: str | Path, rows: Sequence[SegmentationRow], note: str = ""
) -> Figure:
    """Draws images, true and predicted labels, one slice per row (the paper's Figures 7 and 8).

    Args:
      path: of the picture, for the message of an error.
      rows: at least one; all with the same modalities. T1Gd shows ET and core best, FLAIR the
        oedema.
      note: text below the figure, e.g. the convention of the Dice.

    Raises:
      BratsError: no rows, or arrays of different shapes.
    """
    names = _common_names(path, [row.images for row in rows])
    for row in rows:
        _check_shape(path, row, row.truth.shape, *row.images.values(), row.prediction)
    heads = [head_mask(list(row.images.values())) for row in rows]
    windows = common_windows(heads)
    figure, grid = bare_figure(len(rows), len(names) + 2, windows[0], note, legend=True)
    for line, (row, axes) in enumerate(zip(rows, grid, strict=True)):
        head, window = heads[line], windows[line]
        for axis, name in zip(axes, names, strict=False):
            draw_slice(axis, row.images[name], head, window)
        for axis, labels in ((axes[-2], row.truth), (axes[-1], row.prediction)):
            draw_slice(axis, row.images[names[0]], head, window)
            overlay_labels(axis, labels, window)
        scores = "   ".join(f"{name} {_score(value)}" for name, value in row.dice.items())
        axes[-1].set_xlabel(f"Dice   {scores}", loc="right")
        name_row(axes[0], row.patient, row.slice_number)
    titles = [*(DISPLAY_NAMES[name] for name in names), "truth", "prediction"]
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title)
    return figure


def dataset_drawing(name: str | Path, row: DatasetRow, note: str = "") -> Figure:
    """Draws four modalities, three masks, and the masks in colour on T1 (the paper's Figure 4).

    Args:
      name: of the figure, for the message of an error.
      row: the slice.
      note: text below the figure.

    Raises:
      BratsError: arrays of different shapes.
    """
    images = [row.images[..., m] for m in range(row.images.shape[-1])]
    if len(images) != len(MODALITIES):
        raise BratsError(f"{name}: {len(images)} modalities given, {len(MODALITIES)} expected")
    _check_shape(name, row, row.labels.shape, *images)
    head = head_mask(images)
    (window,) = common_windows([head])
    figure, grid = bare_figure(2, len(MODALITIES), window, note, legend=True)
    for axis, modality, image in zip(grid[0], MODALITIES, images, strict=True):
        draw_slice(axis, image, head, window)
        axis.set_title(DISPLAY_NAMES[modality])
    for axis, region in zip(grid[1], CLASSES[1:], strict=False):
        mask = row.labels == CLASSES.index(region)
        axis.imshow(mask[window].T, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(region)
        axis.set_xlabel(f"{int(mask.sum())} pixels")
    draw_slice(grid[1, 3], images[MODALITIES.index("t1")], head, window)
    overlay_labels(grid[1, 3], row.labels, window)
    grid[1, 3].set_title("all three on T1")
    name_row(grid[0, 0], row.patient, row.slice_number)
    return figure


def _score(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.2f}"


def _common_names(path: str | Path, pictures: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
    """The modalities of all rows, in the order of the first row."""
    if not pictures:
        raise BratsError(f"{path}: no slices to draw; give at least one row")
    names = list(pictures[0])
    for other in pictures:
        if not names or set(other) != set(names):
            raise BratsError(
                f"{path}: rows with different modalities ({', '.join(names) or 'none'} and "
                f"{', '.join(other) or 'none'}) cannot share columns; give the same in every row"
            )
    return names


def _check_shape(
    path: str | Path,
    row: ReconstructionRow | SegmentationRow | DatasetRow,
    shape: tuple[int, ...],
    *arrays: np.ndarray,
) -> None:
    for array in arrays:
        if array.ndim != 2 or array.shape != shape:
            raise BratsError(
                f"{path}: {row.patient} slice {row.slice_number} has images of shapes "
                f"{tuple(shape)} and {array.shape}; all must be one [H, W]"
            )
