"""Pictures and pages of a case: whole, self-contained, and holding what they were given."""

import base64
import dataclasses
import gzip
import json
import re
from html.parser import HTMLParser

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread
from viewer_example import HASH, RECORD, SHAPE, has_colour, make_case

from brats_jax import RESEARCH_USE_ONLY
from brats_jax.data.modalities import CLASSES, MODALITIES
from brats_jax.errors import BratsError
from brats_jax.viewer import CaseView, write_overview, write_page
from brats_jax.viewer.overview import UNCERTAINTY_COLOUR, chosen_slices, draw_overview
from brats_jax.viewer.page import grey_bytes, head_box, head_slices
from brats_jax.viewer.slices import CLASS_COLOURS


@pytest.fixture(scope="module")
def case() -> CaseView:
    return make_case()


class Page(HTMLParser):
    """What a page holds: text, attributes, ids of its inputs, and its data by id."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.attributes, self.data = "", [], {}
        self.values: list[str] = []
        self._inside: tuple[str, str] = ("", "")
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self._inside = (tag, named.get("id") or "")
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "input" and "value" in named:
            self.values.append(named["value"])

    def handle_data(self, data):
        tag, name = self._inside
        if tag == "script" and name:
            self.data[name] = self.data.get(name, "") + data
        elif tag not in ("script", "style"):
            self.words += data

    def volume(self, name: str) -> nibabel.Nifti1Image:
        raw = gzip.decompress(base64.b64decode(self.data[f"volume-{name}"]))
        return nibabel.Nifti1Image.from_bytes(raw)


@pytest.fixture(scope="module")
def page(case, tmp_path_factory) -> Page:
    folder = tmp_path_factory.mktemp("page")
    picture = write_overview(folder / "case.png", case)
    return Page(write_page(folder / "case.html", case, picture).read_text())


def on_the_grid(page: Page, name: str) -> np.ndarray:
    """[D, H, W]: an embedded volume, put where its affine says it lies."""
    image = page.volume(name)
    steps = np.array([-1.0, -0.5, 4.0])
    np.testing.assert_allclose(np.diag(image.affine)[:3], steps)
    x, y, z = np.rint(image.affine[:3, 3] / steps).astype(int)
    voxels = np.moveaxis(np.asarray(image.dataobj), 2, 0)
    whole = np.zeros(SHAPE, voxels.dtype)
    depth, height, width = voxels.shape
    whole[z : z + depth, x : x + height, y : y + width] = voxels
    return whole


def test_the_volumes_come_back_from_the_page(case, page):
    for name, given in (("prediction", case.labels), ("truth", case.truth)):
        assert page.volume(name).get_data_dtype() == np.uint8
        np.testing.assert_array_equal(on_the_grid(page, name), given)
    found = on_the_grid(page, "uncertainty") / 255
    np.testing.assert_allclose(found[2:], case.uncertainty[2:], atol=0.5 / 255)
    for channel, name in enumerate(MODALITIES):
        grey = on_the_grid(page, name)
        np.testing.assert_array_equal(grey, grey_bytes(case, channel))
        assert grey.max() == 255 and not grey[~case.brain].any()
    assert nibabel.aff2axcodes(page.volume("t1").affine) == ("L", "P", "S")
    settings = json.loads(page.data["settings"])
    assert settings["offset"] == [3, 2, 0] and settings["shape"] == [34, 29, 14]
    assert settings["head"] == [[6, 33], [5, 27], [2, 11]]  # without the margin around it
    # Voxels over slices: x, y, z of the planes with most tumour, truth included.
    seen = (case.labels != 0) | (case.truth != 0)
    assert settings["start"] == [int(np.argmax(seen.sum(o))) for o in ((0, 2), (0, 1), (1, 2))]


def test_what_is_predicted_in_air_is_embedded_and_no_head(case):
    labels = case.labels.copy()
    labels[5, 39, 15] = 1
    stray = dataclasses.replace(case, labels=labels)
    assert head_slices(stray) == head_slices(case) == [(2, 11), (6, 33), (5, 27)]
    assert (head_box(stray)[1].stop, head_box(case)[1].stop) == (40, 37)


def test_the_page_loads_nothing(page):
    loading = [v for _, name, v in page.attributes if name in ("src", "href", "action", "srcset")]
    assert loading and all(value.startswith("data:") for value in loading)
    (policy,) = (v for tag, name, v in page.attributes if name == "content" and "default-src" in v)
    assert "default-src 'none'" in policy and "http" not in policy and "*" not in policy
    own = [text for name, text in page.data.items() if not name.startswith("volume-")]
    assert "http" not in "".join(own)


def test_the_page_says_what_it_shows(page):
    for text in ("Case_1", RESEARCH_USE_ONLY, HASH, "<ssl> & co", *CLASSES[1:], "truth, ml"):
        assert text in page.words
    # NCR/NET, ED, ET and all: 250, 1000, 250 and 1500 voxels of 2 mm3; the truth has as many.
    numbers = re.findall(r"\d+\.\d\d", page.words)
    assert numbers[:8] == ["0.50", "0.50", "2.00", "2.00", "0.50", "0.50", "3.00", "3.00"]
    styles = " ".join(value for _, name, value in page.attributes if name == "style")
    assert all(colour in styles for colour in (*CLASS_COLOURS.values(), UNCERTAINTY_COLOUR))
    assert set(page.values) >= {*MODALITIES, "axial", "prediction", "truth", "uncertainty"}


def test_all_that_is_known_is_there_as_text(page):
    text = page.words[page.words.index("Everything about this prediction") :]
    start, end = text.index("{"), text.rindex("}") + 1
    assert json.loads(text[start:end]) == RECORD
    assert '\n    "hash": ' in text  # a line for each


def test_an_absent_modality_is_no_black_image(tmp_path, case):
    images = case.images.copy()
    images[..., 1] = 0
    lacking = dataclasses.replace(case, images=images)
    assert lacking.present == ("t1", "t2", "flair") and lacking.under == "t1"
    page = Page(write_page(tmp_path / "a.html", lacking).read_text())
    assert "volume-t1gd" not in page.data and "volume-t2" in page.data
    assert "There is no T1Gd image of this case." in page.words
    whole, part = (imread(write_overview(tmp_path / "o.png", c)) for c in (case, lacking))
    assert part.shape[1] < 0.9 * whole.shape[1]  # a column less


def test_a_case_without_truth_and_tumour(tmp_path, case):
    bare = CaseView("Case_2", case.images, np.zeros(SHAPE, np.uint8))
    page = Page(write_page(tmp_path / "a.html", bare).read_text())
    assert "truth" not in page.values and "volume-truth" not in page.data
    assert "outlined" not in page.words and "uncertainty: 0" not in page.words
    assert not np.asarray(page.volume("prediction").dataobj).any()
    empty = CaseView("Case_3", np.zeros_like(case.images), bare.labels)
    write_page(tmp_path / "b.html", empty)
    assert imread(write_overview(tmp_path / "b.png", empty)).shape[1] > 300


def test_the_same_case_gives_the_same_page(tmp_path, case):
    first, second = (write_page(tmp_path / f"{n}.html", case).read_bytes() for n in "ab")
    assert first == second


def test_the_overview_shows_slices_of_the_tumour_in_their_colours(tmp_path, case):
    assert chosen_slices(case, 4) == [3, 4, 6, 7]
    assert chosen_slices(case, 9) == [3, 4, 5, 6, 7]
    small = dataclasses.replace(case, truth=None, uncertainty=None)
    pictures = [imread(write_overview(tmp_path / "o.png", c)) for c in (case, small)]
    assert pictures[0].shape[1] > 1.2 * pictures[1].shape[1]  # two columns more

    # What it may be used for is never cut off at the sides.
    figure = draw_overview(dataclasses.replace(small, name="A long name of a case, and more of it"))
    figure.canvas.draw()
    box = figure._supxlabel.get_window_extent()
    assert box.x0 > 0 and box.x1 < figure.bbox.width and box.y0 >= 0

    for name, code in CLASS_COLOURS.items():
        assert has_colour(pictures[1][..., :3], code, 0.65).sum() > 200, name


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": np.zeros((*SHAPE, 3))}, r"images are \[14, 40, 32, 3\]; give \[D, H, W, 4\]"),
        ({"truth": np.zeros((3, 3, 3), int)}, r"truth are \[3, 3, 3\], images \[14, 40, 32\]"),
        ({"labels": np.full(SHAPE, 4)}, "labels hold other values than 0 to 3"),
        ({"uncertainty": np.full(SHAPE, 1.5)}, "not within 0 and 1"),
        ({"uncertainty": np.full(SHAPE, np.nan)}, "not within 0 and 1"),
        ({"images": np.full((*SHAPE, 4), np.nan)}, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(case, change, message):
    with pytest.raises(BratsError, match=message) as error:
        dataclasses.replace(case, **change)
    assert str(error.value).startswith("Case_1: ") and "\n" not in str(error.value)
