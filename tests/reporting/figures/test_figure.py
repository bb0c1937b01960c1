"""One figure: its style, its file, and its data inside the page."""

import io
import itertools

import matplotlib
import numpy as np
import pytest
from PIL import Image

from brats_jax.reporting.figures.figure import (
    BASELINE,
    GREY,
    OTHERS,
    SSL,
    axes,
    canvas,
    drawn,
    photograph,
    styled,
)
from brats_jax.viewer.slices import CLASS_COLOURS


def one_line():
    drawing = canvas(2, 1)
    axes(drawing, 1, 1)[0][0].plot([0, 1], [0, 1])
    return drawn(drawing, "line", "", "Title", "Caption", "A line")


def picture(width, height) -> io.BytesIO:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (240, 228, 66)).save(out, "PNG")
    out.seek(0)
    return out


def lab(colour: str) -> np.ndarray:
    """CIE L*a*b* of '#RRGGBB' under D65."""
    rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    ratio = to_xyz @ linear / [0.9505, 1, 1.089]
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_a_colour_has_one_meaning_in_the_report():
    """Classes, sides and further starts: a difference of 20 is plain side by side."""
    colours = [*CLASS_COLOURS.values(), BASELINE, SSL, GREY, *(colour for colour, _ in OTHERS)]
    for one, other in itertools.combinations(colours, 2):
        assert np.linalg.norm(lab(one) - lab(other)) > 20, (one, other)
    assert abs(lab(BASELINE) - lab(SSL))[0] > 25  # also without colours


def test_a_drawing_is_svg_of_its_width_in_css_pixels():
    figure = one_line()
    assert (figure.mime, figure.width) == ("image/svg+xml", 192)
    assert figure.data.startswith(b"<?xml")
    assert figure.source.startswith("data:image/svg+xml;base64,")


def test_the_same_drawing_gives_the_same_file():
    draw = styled(one_line)
    assert draw().data == draw().data


def test_matplotlibs_style_is_restored():
    before = dict(matplotlib.rcParams)
    styled(one_line)()
    assert dict(matplotlib.rcParams) == before


def test_a_wide_picture_is_scaled_down_to_the_page(tmp_path):
    figure = photograph(picture(2800, 700), "name", "", "Title", "Caption", "Alt")
    path = tmp_path / figure.file_name
    path.write_bytes(figure.data)
    assert path.name == "name.jpg"
    with Image.open(path) as image:
        assert image.size == (1400, 350) and figure.width == 1400
        # Small coloured labels keep their colour.
        assert np.abs(np.subtract(image.getpixel((9, 9)), (240, 228, 66))).max() < 4


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    path = tmp_path / "x.png"
    path.write_text("no picture")
    with pytest.raises(OSError):
        photograph(path, "name", "", "Title", "Caption", "Alt")
