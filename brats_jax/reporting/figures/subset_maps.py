"""The heat map of missing modalities: regions by subsets, a map for each arm."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.image import AxesImage

from brats_jax.data.modalities import DISPLAY_NAMES, REGIONS
from brats_jax.data.subsets import ROWS, Subset
from brats_jax.reporting import captions
from brats_jax.reporting.figures.figure import GREY, Figure, axes, canvas, drawn, styled
from brats_jax.reporting.subsets import SubsetArm
from brats_jax.reporting.tables.subset_tables import FILLED, TRAINED, ZEROS, columns_of

# One hue, from light to dark, that no class and no side has.
_COLOURS = LinearSegmentedColormap.from_list("Dice", ("#F2EEF8", "#9E88C6", "#3B2270"))
_DARK = 0.55  # Dice above which a number is white
_WIDTH = 8.4  # inches


@styled
def subset_map(arms: Sequence[SubsetArm]) -> Figure | None:
    """3D Dice of every arm, region and subset, with the mean over the subsets at the right.

    Dots below each column say which modalities were given, as in tables of the literature.
    """
    if not arms:
        return None
    every = columns_of(arms)
    names = [name for name in ROWS if any(name in one.inputs for one in arms)]
    heights = [1.25] * len(arms) + [0.2 * len(names) + 0.1]
    drawing = canvas(_WIDTH, sum(heights) + 0.3)
    grid = axes(drawing, len(heights), 1, height_ratios=heights)
    for (axis,), one in zip(grid[:-1], arms, strict=True):
        dice = np.full((len(REGIONS), len(every) + 1), np.nan)
        for r, region in enumerate(REGIONS):
            for k, subset in enumerate((*every, ())):
                if not subset or subset in one.subsets:
                    dice[r, k] = one.mean(subset, region)
        image = _draw_map(axis, dice)
        how = TRAINED if one.trained else ZEROS
        title = f"{one.arm.label}; missing modalities: {how}"
        axis.set_title("\n".join(textwrap.wrap(title, 105)), loc="left")
    _draw_dots(grid[-1][0], every, names)
    drawing.colorbar(image, ax=[row[0] for row in grid[:-1]], label="3D Dice", shrink=0.9, pad=0.01)
    return drawn(
        drawing,
        "subsets",
        "",
        "3D Dice from every subset of the modalities",
        f"Columns: the subsets, in the order of the literature; last column: their mean. {FILLED} "
        "Mean over patients; a region in neither mask counts 1 (BraTS 2020). "
        + captions.over([one for each in arms for one in each.group]),
        "Heat map of Dice: a map for each arm, rows WT, TC and ET, columns the subsets",
    )


def _draw_map(axis: Axes, dice: np.ndarray) -> AxesImage:
    """The cells with their numbers; the last column is apart from the others."""
    apart = np.insert(dice, dice.shape[1] - 1, np.nan, axis=1)
    image = axis.imshow(apart, cmap=_COLOURS, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(apart):
        if value == value:
            colour = "white" if value > _DARK else "black"
            axis.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=colour,
                      fontsize=8)  # fmt: skip
    axis.set_yticks(range(len(REGIONS)), list(REGIONS))
    axis.set_xticks([apart.shape[1] - 1], ["mean"])
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    return image


def _draw_dots(axis: Axes, every: Sequence[Subset], names: Sequence[str]) -> None:
    for y, name in enumerate(names):
        given = [name in subset for subset in every]
        for x, there in enumerate(given):
            face = "black" if there else "white"
            axis.plot(x, y, "o", ms=6, mfc=face, mec="black" if there else GREY, mew=0.8)
    axis.set_xlim(-0.5, len(every) + 1.5)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_yticks(range(len(names)), [DISPLAY_NAMES[name] for name in names])
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
