"""Pictures and pages of a case: whole, self-contained, and holding what they were given."""

import base64
import dataclasses
import gzip
import json
import os
import re
import subprocess
from html.parser import HTMLParser

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from brats_jax import RESEARCH_USE_ONLY
from brats_jax.data.modalities import CLASSES, MODALITIES
from brats_jax.errors import BratsError
from brats_jax.slice_drawing import CLASS_COLOURS
from brats_jax.viewer import CaseView, write_overview, write_page
from brats_jax.viewer.overview import UNCERTAINTY_COLOUR, chosen_slices
from brats_jax.viewer.page import grey_bytes

SHAPE = (14, 40, 32)
HASH = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def case() -> CaseView:
    """A head with a tumour of 250, 1000 and 250 voxels (NCR/NET, ED, ET) of 2 mm3."""
    rng = np.random.default_rng(0)
    images = np.zeros((*SHAPE, 4), np.float32)
    images[2:12, 6:34, 5:28] = rng.gamma(9.0, 40.0, (10, 28, 23, 4))
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:8, 10:30, 8:23] = 2
    labels[3:8, 10:20, 8:18] = 1
    labels[3:8, 10:20, 8:13] = 3
    truth = np.roll(labels, 2, 1)
    uncertainty = np.where(labels != truth, 0.75, 0.0)
    uncertainty[0, 0] = 0.1  # in air, which no network is certain of: left out
    spacing_mm = (1.0, 0.5, 4.0)
    facts = {"model": HASH, "config": "<ssl> & co"}
    return CaseView("Case_1", images, labels, truth, uncertainty, spacing_mm, facts)


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
    # Voxels over slices: x, y, z of the planes with most tumour, truth included.
    seen = (case.labels != 0) | (case.truth != 0)
    assert settings["start"] == [int(np.argmax(seen.sum(o))) for o in ((0, 2), (0, 1), (1, 2))]


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

    def has(picture, code):  # at 65 % over grey: the colour's own hue
        want = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        grey = (picture[..., :3] - 0.65 * want) / 0.35
        return (np.ptp(grey, -1) < 0.03) & (grey.min(-1) > -0.02) & (grey.max(-1) < 1.02)

    for name, code in CLASS_COLOURS.items():
        assert has(pictures[1], code).sum() > 200, name


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


# Runs inside the page; the policy of the page allows it, because it stands in the page.
DRIVER = """
<script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const where = () => document.getElementById("where").textContent.split(",")[0];
const press = (key) =>
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
(async () => {
  while (!document.documentElement.dataset.state) await wait(50);
  const seen = [document.documentElement.dataset.state, where()];
  for (const key of ["ArrowUp", "PageDown", "Home", "c", "s", "a"]) {
    press(key);
    seen.push(where());
  }
  press("t");
  seen.push(document.querySelector("input[value=truth]").checked);
  document.getElementById("on").click();
  seen.push(where());
  document.title = JSON.stringify(seen);
})();
</script>
"""


@pytest.mark.skipif("BRATS_CHROMIUM" not in os.environ, reason="BRATS_CHROMIUM names no browser")
def test_in_a_real_browser(tmp_path, case):
    path = write_page(tmp_path / "case.html", case)
    path.write_text(path.read_text() + DRIVER)
    command = [os.environ["BRATS_CHROMIUM"], "--headless", "--no-sandbox", "--use-gl=angle"]
    command += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=30000"]
    done = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, text=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert json.loads(title[1]) == [
        "ready", "axial slice 3", "axial slice 4", "axial slice 0", "axial slice 3",
        "coronal slice 8", "sagittal slice 10", "axial slice 3", True, "axial slice 4",
    ]  # fmt: skip
