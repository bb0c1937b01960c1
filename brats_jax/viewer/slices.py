"""Drawing slices: figures, grey windows, label overlays, and crops of equal size.

Slices are drawn as `image.T` with the origin at the top. The arrays run x to the patient's Left and
y to Posterior, so that anterior is up and the patient's left is on the right, as in radiology.
Figures are made without pyplot, because it has global state and may need a display. Matplotlib's
font caches are global all the same, so that only one thread draws at a time.
"""

import io
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from brats_jax import about
from brats_jax.data.modalities import CLASSES
from brats_jax.runtime.files import atomic_open
from brats_jax.runtime.text import escaped_line

# From Okabe and Ito's colour-blind safe set: https://jfly.uni-koeln.de/color/
# Pictures, pages and the report have these colours for the classes, and for nothing else.
CLASS_COLOURS: dict[str, str] = dict(
    zip(CLASSES[1:], ("#0072B2", "#F0E442", "#D55E00"), strict=True)
)

_CELL_INCHES = 1.75
_DPI = 130
_NOTE_CHARACTERS = 17  # per inch of the line below the figure
# Of the paragraphs above the figure, in the colours of template/page.css.
_WARNING_CHARACTERS, _WARNING_INCHES, _WARNING_INK, _WARNING_GROUND = 12, 0.17, "#7a4200", "#fff6e6"
_MARGIN = 4  # pixels around the head
_DRAWING = threading.Lock()


def bare_figure(
    rows: int,
    columns: int,
    window: tuple[slice, slice],
    note: str,
    legend: bool = False,
    warnings: Sequence[str] = (),
) -> tuple[Figure, np.ndarray]:
    """A figure without ticks, and its axes [rows, columns].

    Args:
      rows, columns: number of axes.
      window: the part of a slice that is drawn; its shape is the shape of the axes.
      note: text below the figure, before the note on the orientation.
      legend: whether to add a legend of `CLASS_COLOURS` above the axes.
      warnings: for the reader, a paragraph each, above the legend, without which there are none.
    """
    width, height = (part.stop - part.start for part in window)
    cell = _CELL_INCHES * height / width + 0.26  # with a line of text for every row
    engine = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    inches = columns * (_CELL_INCHES + 0.04) + 0.35
    lines = [
        line
        for text in warnings
        for line in textwrap.wrap(f"\u2022 {escaped_line(text)}", int(_WARNING_CHARACTERS * inches))
    ]
    high = rows * cell + 0.5 + 0.25 * legend + _WARNING_INCHES * (len(lines) + bool(lines))
    figure = Figure(figsize=(inches, high), dpi=_DPI, layout=engine)
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axis in grid.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_facecolor("black")
        for spine in axis.spines.values():
            spine.set_visible(False)
        axis.title.set_size(8.5)
        axis.xaxis.label.set_size(7.5)
        axis.yaxis.label.set_size(8)
    orientation = "anterior up, R and L: the patient's right and left"
    lower = f"{note}; {orientation}" if note else orientation
    if legend:
        shown = figure.legend(
            handles=[Patch(color=colour, label=name) for name, colour in CLASS_COLOURS.items()],
            loc="outside upper center",
            ncols=len(CLASS_COLOURS),
            frameon=False,
            fontsize=9,
            labelspacing=0.5 + 0.5 * bool(lines),  # also between title and colours
        )
        if lines:
            # The layout leaves room for a legend with its title, not for a legend and a suptitle.
            shown.set_title("\n".join(lines))
            title = shown.get_title()
            title.set(color=_WARNING_INK, size=9, multialignment="left", parse_math=False)
            title.set_bbox({"facecolor": _WARNING_GROUND, "edgecolor": _WARNING_INK, "pad": 4})
    lower = textwrap.fill(escaped_line(lower), int(_NOTE_CHARACTERS * inches))
    figure.supxlabel(lower, fontsize=7, parse_math=False)
    return figure, grid


def draw_slice(
    axis: Axes,
    image: np.ndarray,
    head: np.ndarray,
    window: tuple[slice, slice],
    like: np.ndarray | None = None,
) -> None:
    """Draws a slice in the grey window of another one.

    Args:
      axis: the axes to draw on.
      image: float[H, W].
      head: bool[H, W], see `head_mask`.
      window: the part to draw.
      like: float[H, W], the slice that defines black and white; None for `image`.
    """
    image = np.asarray(image, np.float32)
    low, high, outside = _limits(image if like is None else np.asarray(like, np.float32), head)
    if outside:
        image = np.where(head, image, low)
    axis.imshow(image[window].T, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    for letter, x, side in (("R", 0.02, "left"), ("L", 0.98, "right")):
        label = axis.text(x, 0.985, letter, color="0.8", size=7, ha=side, va="top")
        label.set_transform(axis.transAxes)
        label.set_in_layout(False)  # the layout takes half the time without them


def overlay_labels(
    axis: Axes,
    labels: np.ndarray,
    window: tuple[slice, slice],
) -> None:
    """Draws the classes over a slice, each in its colour, with an opacity of 65 %."""
    shown = np.asarray(labels[window]).T
    layer = np.zeros((*shown.shape, 4), np.float32)
    for name, colour in CLASS_COLOURS.items():
        layer[shown == CLASSES.index(name)] = (*to_rgb(colour), 0.65)
    axis.imshow(layer, interpolation="nearest")


def _limits(image: np.ndarray, head: np.ndarray) -> tuple[float, float, bool]:
    """Black, white, and whether the background must be set to black.

    The background of a slice normalised by itself is its minimum. The background of a volume
    normalised over the brain is the mean, which lies between black and white.
    """
    background = _background(image)
    inside = image[head & np.isfinite(image) & (image != background)]
    if not inside.size:
        return background, background + 1.0, False
    low, high = (float(v) for v in np.percentile(inside, (0.5, 99.5)))
    high = max(high, low + 1e-6)
    if background > low:
        return low - 0.1 * (high - low), high, True
    return max(background, low - 0.1 * (high - low)), high, False


def _background(image: np.ndarray) -> float:
    levels, counts = np.unique(image, return_counts=True)
    return float(levels[np.argmax(counts)])


def head_mask(images: Sequence[np.ndarray]) -> np.ndarray:
    """bool[H, W]: pixels where any image differs from its most common value."""
    head = np.zeros(images[0].shape, bool)
    for image in images:
        head |= np.asarray(image) != _background(np.asarray(image))
    return head


def common_windows(heads: Sequence[np.ndarray]) -> list[tuple[slice, slice]]:
    """A window around each head, all of the size of the largest head and a margin."""
    low = np.zeros((len(heads), 2), int)
    high = np.array([head.shape for head in heads])
    for i, head in enumerate(heads):
        for axis in (0, 1):
            where = np.flatnonzero(head.any(1 - axis))
            if where.size:
                low[i, axis], high[i, axis] = where[0], where[-1] + 1
    room = np.min([head.shape for head in heads], axis=0)
    size = np.minimum((high - low).max(0) + 2 * _MARGIN, room)
    windows = []
    for (row, column), (row_end, column_end), head in zip(low, high, heads, strict=True):
        centre = ((row + row_end) // 2, (column + column_end) // 2)
        starts = [
            int(np.clip(c - s // 2, 0, max(n - s, 0)))
            for c, s, n in zip(centre, size, head.shape, strict=True)
        ]
        windows.append(
            (slice(starts[0], starts[0] + int(size[0])), slice(starts[1], starts[1] + int(size[1])))
        )
    return windows


def name_row(axis: Axes, patient: str, slice_number: int) -> None:
    """Writes patient and slice number beside the first axes of a row."""
    # No formula, even with two dollar signs in a name.
    axis.set_ylabel(f"{escaped_line(patient)}\nslice {slice_number}", parse_math=False)


def save(figure: Figure, path: str | Path) -> Path:
    """Writes a PNG atomically; returns `path`."""
    path = Path(path)
    data = png(figure)
    with atomic_open(path, "wb") as file:
        file.write(data)
    return path


def png(figure: Figure) -> bytes:
    """A figure as PNG, with program and research notice in its header."""
    facts = {"Software": f"brats_jax {about.__version__}"}
    facts["Comment"] = about.RESEARCH_USE_ONLY
    data = io.BytesIO()
    figure.set_facecolor("white")
    with _DRAWING:
        # Not savefig, which draws everything twice, the first time for the layout alone.
        FigureCanvasAgg(figure).print_png(data, metadata=facts)
    return data.getvalue()
