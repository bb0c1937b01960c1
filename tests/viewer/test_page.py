"""The page of a case: complete, self-contained, and with the given volumes in it."""

import base64
import dataclasses
import gzip
import json
import re
from html.parser import HTMLParser

import nibabel
import numpy as np
import pytest
from viewer_example import HASH, RECORD, SHAPE, make_case

from brats_jax import RESEARCH_USE_ONLY
from brats_jax.data.modalities import CLASSES, MODALITIES
from brats_jax.viewer import CaseView, write_overview, write_page
from brats_jax.viewer.overview import UNCERTAINTY_COLOUR
from brats_jax.viewer.page import grey_bytes, head_box, head_slices, page_of
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


def test_a_label_in_air_is_embedded_but_is_no_head(case):
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


def test_the_page_names_case_model_and_volumes(page):
    for text in ("Case_1", RESEARCH_USE_ONLY, HASH, "<ssl> & co", *CLASSES[1:]):
        assert text in page.words
    # NCR/NET, ED and ET have 250, 1000 and 250 voxels of 2 mm3; the truth has as many.
    table = page.words[page.words.index("Volumes in ml") : page.words.index("3D Dice")]
    assert table.split("\n")[0] == "Volumes in ml" and "prediction" in table and "truth" in table
    rows = re.findall(r"^ *(\w[\w ]+\([A-Z/]+\))(\d+\.\d\d)(\d+\.\d\d)$", table, re.MULTILINE)
    assert rows == [
        ("whole tumour (WT)", "3.00", "3.00"),
        ("tumour core (TC)", "1.00", "1.00"),
        ("enhancing tumour (ET)", "0.50", "0.50"),
        ("necrotic core (NCR/NET)", "0.50", "0.50"),
        ("oedema (ED)", "2.00", "2.00"),
    ]
    styles = " ".join(value for _, name, value in page.attributes if name == "style")
    assert all(colour in styles for colour in (*CLASS_COLOURS.values(), UNCERTAINTY_COLOUR))
    assert set(page.values) >= {*MODALITIES, "axial", "prediction", "truth", "uncertainty"}


def test_notes_are_the_first_thing_on_the_page(tmp_path, case, page):
    assert "on this case" not in page.words
    for notes, title in ((("<b>4%</b> in air",), "Note on this case"),
                         (("first", "second"), "Notes on this case")):  # fmt: skip
        noted = dataclasses.replace(case, notes=notes)
        words = Page(write_page(tmp_path / "a.html", noted).read_text()).words
        at = [words.index(text) for text in (RESEARCH_USE_ONLY, title, *notes, "Image", "Volumes")]
        assert at == sorted(at)
        assert all(words.count(note) == 1 for note in notes)


def test_the_uncertainty_is_a_named_quantity(tmp_path, case, page):
    assert "uncertainty, from 0 (no colour) to 1 (full colour): 0 is certain, 1" in page.words
    named = dataclasses.replace(case, uncertainty_is="entropy of something")
    words = Page(write_page(tmp_path / "a.html", named).read_text()).words
    assert "to 1 (full colour): entropy of something" in words


def test_the_full_record_is_on_the_page(page):
    text = page.words[page.words.index("Full record of this prediction") :]
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
    assert "1, 3, 4T1, T2, FLAIR" in page.words  # keys
    assert "No T1Gd image of this case was read." in page.words
    assert "was segmented in its place" not in page.words
    synthetic = dataclasses.replace(lacking, facts={**case.facts, "synthetic": "T1Gd"})
    words = Page(write_page(tmp_path / "b.html", synthetic).read_text()).words
    assert "A synthetic T1Gd, predicted from the others, was segmented in its place." in words


def test_a_case_without_truth_and_tumour(tmp_path, case):
    bare = CaseView("Case_2", case.images, np.zeros(SHAPE, np.uint8))
    page = Page(write_page(tmp_path / "a.html", bare).read_text())
    assert "truth" not in page.values and "volume-truth" not in page.data
    assert "outlined" not in page.words and "uncertainty" not in page.words
    assert "Pprediction" in page.words and "1, 2, 3, 4T1, T1Gd, T2, FLAIR" in page.words  # keys
    assert not np.asarray(page.volume("prediction").dataobj).any()
    empty = CaseView("Case_3", np.zeros_like(case.images), bare.labels)
    write_page(tmp_path / "b.html", empty)


def test_the_same_case_gives_the_same_page(tmp_path, case):
    first, second = (write_page(tmp_path / f"{n}.html", case).read_bytes() for n in "ab")
    assert first == second


def test_volumes_have_the_range_of_the_averaged_predictions(case, page):
    assert "Small: from" not in page.words
    ranged = Page(page_of(dataclasses.replace(case, ranges_ml={"WT": (2.5, 3.25)}), b"png"))
    assert "2.50 to 3.25" in ranged.words and "no confidence interval" in ranged.words
    assert ranged.words.count(" to 3.25") == 1  # of the prediction, not of the truth
