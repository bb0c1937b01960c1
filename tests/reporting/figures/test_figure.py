"""One figure: its style, its file, and its data inside the page."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

from brats_jax.reporting.figures.figure import axes, canvas, drawn, photograph, styled


def one_line():
    drawing = canvas(2, 1)
    axes(drawing, 1, 1)[0][0].plot([0, 1], [0, 1])
    return drawn(drawing, "line", "", "Title", "Caption", "A line")


def picture(width, height) -> io.BytesIO:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (240, 228, 66)).save(out, "PNG")
    out.seek(0)
    return out


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
