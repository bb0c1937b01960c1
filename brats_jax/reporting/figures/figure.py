"""One figure of the report: its style, and its picture as data inside the page."""

import base64
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from PIL import Image

# A colour has one meaning in the whole report. Those of `viewer.slices.CLASS_COLOURS` are the
# classes'; these differ from them and from each other in hue or lightness, for colour-blind readers
# too. Each side has a marker of its own for print without colours.
BASELINE, SSL = "#3D3D3D", "#009E73"
GREY = "#9A9A9A"  # what is neither side: single folds, limits
# Colours and markers of further starts.
OTHERS = (
    ("#CC79A7", "s"),
    ("#882255", "^"),
    ("#999933", "v"),
    ("#7A4A2B", "P"),
    ("#B9A5D6", "X"),
    ("#332288", "*"),
)
SIDES = {False: ("baseline", BASELINE, "o"), True: ("SSL", SSL, "D")}

_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    # Constant element ids: the same drawing gives the same file.
    "svg.hashsalt": "brats_jax",
}
_WIDEST = 1400  # pixels; a page shows no more
_QUALITY = 88


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    Attributes:
      name: stem of its file.
      number: 'Figure 5' as in the paper; '' for a figure that the paper does not have, which
        gets its number when the page is put together.
      title: its content in a few words.
      caption: convention, split, patients.
      alt: description for readers who cannot see it.
      mime, data: type and bytes of the picture.
      width: largest width on the page, in CSS pixels.
    """

    name: str
    number: str
    title: str
    caption: str
    alt: str
    mime: str
    data: bytes
    width: int
    kind: str = field(default="figure", init=False)

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"

    @property
    def ending(self) -> str:
        """Ending of its file name."""
        return {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}[self.mime]

    @property
    def file_name(self) -> str:
        """NAME.svg, NAME.png or NAME.jpg."""
        return f"{self.name}.{self.ending}"


_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def styled(draw: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorator: draws in the report's style and restores matplotlib's afterwards."""

    @functools.wraps(draw)
    def in_style(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with rc_context(_STYLE):  # type: ignore[arg-type]
            return draw(*args, **kwargs)

    return in_style


def canvas(width: float, height: float) -> Canvas:
    """An empty drawing, size in inches; without pyplot, which has global state."""
    drawing = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing


def axes(drawing: Canvas, rows: int, columns: int, **options: object) -> list[list[Axes]]:
    """The axes of a drawing, in rows."""
    grid = drawing.subplots(rows, columns, squeeze=False, **options)  # type: ignore[call-overload]
    return [list(row) for row in grid]


def drawn(drawing: Canvas, name: str, number: str, title: str, caption: str, alt: str) -> Figure:
    """A drawing as SVG; letters become shapes, so no font is needed."""
    out = io.BytesIO()
    drawing.savefig(out, format="svg", facecolor="white", metadata={"Date": None})
    width = round(drawing.get_figwidth() * 96)
    return Figure(name, number, title, caption, alt, "image/svg+xml", out.getvalue(), width)


def photograph(
    path_or_file: Path | io.BytesIO, name: str, number: str, title: str, caption: str, alt: str
) -> Figure:
    """A picture of slices as JPEG, scaled down to the width of a page.

    Raises:
      OSError: the file is missing or not a picture.
    """
    with Image.open(path_or_file) as image:
        picture = image.convert("RGB")
    if picture.width > _WIDEST:
        height = round(picture.height * _WIDEST / picture.width)
        picture = picture.resize((_WIDEST, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    # No chroma subsampling: it blurs the small coloured labels.
    picture.save(out, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return Figure(name, number, title, caption, alt, "image/jpeg", out.getvalue(), picture.width)
