"""The overview of a segmented case: a PNG with a row for each of a few slices."""

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from brats_jax.about import RESEARCH_USE_ONLY
from brats_jax.data.modalities import DISPLAY_NAMES, channel_indices
from brats_jax.runtime.text import joined
from brats_jax.viewer.case import CaseView
from brats_jax.viewer.slices import (
    bare_figure,
    common_windows,
    draw_slice,
    name_row,
    overlay_labels,
    save,
)

# From the colour-blind safe set of `slices.CLASS_COLOURS`.
UNCERTAINTY_COLOUR = "#CC79A7"


def chosen_slices(case: CaseView, count: int) -> list[int]:
    """Slices at equal steps of tumour volume; of brain volume in a case without tumour.

    Args:
      case: the case.
      count: number of slices; fewer are returned if several steps fall into one slice.

    Returns:
      Slice numbers, ascending.
    """
    below = np.cumsum(case.region_of_interest().sum((1, 2)))
    if not below[-1]:
        return [len(below) // 2]
    targets = (np.arange(count) + 0.5) / count * below[-1]
    return sorted({int(i) for i in np.searchsorted(below, targets)})


def write_overview(path: str | Path, case: CaseView, rows: int = 4) -> Path:
    """Writes a PNG with a row for each slice and a column for each modality and label map.

    The columns are the modalities that are present, the truth if there is one, the prediction, and
    the uncertainty if there is one. The notes on the case stand above them.

    Args:
      path: the PNG, written atomically.
      case: the case to draw.
      rows: number of axial slices.

    Returns:
      `path`.
    """
    return save(draw_overview(case, rows), path)


def draw_overview(case: CaseView, rows: int = 4) -> Figure:
    """The figure that `write_overview` writes."""
    slices = chosen_slices(case, rows)
    heads = [case.brain[z] for z in slices]
    windows = common_windows(heads)
    titles = [DISPLAY_NAMES[name] for name in case.present]
    channels = channel_indices(case.present)
    layers = [("truth", case.truth), ("prediction", case.labels)]
    overlays = [(title, labels) for title, labels in layers if labels is not None]
    titles += [title for title, _ in overlays]
    titles += ["uncertainty"] if case.uncertainty is not None else []
    figure, grid = bare_figure(
        len(slices), len(titles), windows[0], note_of(case), legend=True, warnings=case.notes
    )
    (under,) = channel_indices([case.under])
    for z, axes, head, window in zip(slices, grid, heads, windows, strict=True):
        images = np.moveaxis(case.images[z], -1, 0)
        for axis, channel in zip(axes, channels, strict=False):
            draw_slice(axis, images[channel], head, window)
        for axis, (_, labels) in zip(axes[len(channels) :], overlays, strict=False):
            draw_slice(axis, images[under], head, window)
            overlay_labels(axis, labels[z], window)
        if case.uncertainty is not None:
            draw_slice(axes[-1], images[under], head, window)
            opacity = case.uncertainty[z][window].T
            layer = np.empty((*opacity.shape, 4), np.float32)
            layer[..., :3], layer[..., 3] = to_rgb(UNCERTAINTY_COLOUR), opacity
            axes[-1].imshow(layer, interpolation="nearest")
        name_row(axes[0], case.name, z)
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title)
    return figure


def note_of(case: CaseView) -> str:
    """The text below the figure, which ends before the orientation.

    'CASE; model HASH; mean of predictions in axial and coronal slices; missing t2; 3D Dice against
    the truth: ... Uncertainty: ... For research use only.'
    """
    parts = [case.name]
    if "model" in case.facts:
        parts.append(f"model {case.facts['model'][:12]}")
    if planes := case.facts.get("planes", ""):
        mean = "mean of predictions" if "," in planes else "predicted"
        parts.append(f"{mean} in {joined(planes.split(', '))} slices")
    parts += [
        f"{name} {case.facts[name]}" for name in ("missing", "synthetic") if name in case.facts
    ]
    if case.truth is not None:
        parts.append(case.dice_words)
    words = "" if case.uncertainty is None else f" Uncertainty: {case.uncertainty_is}."
    return f"{'; '.join(parts)}.{words} {RESEARCH_USE_ONLY} Axial"
