"""The page of a case in a real browser: mouse, touch and keys, and the picture afterwards.

Needs a Chromium or Chrome on the PATH; BRATS_CHROMIUM names another one.
"""

import contextlib
import dataclasses
import json

import chromium
import numpy as np
import pytest
from viewer_example import RECORD, has_colour, make_case

from brats_jax.data.modalities import DISPLAY_NAMES, MODALITIES
from brats_jax.viewer import write_page
from brats_jax.viewer.overview import UNCERTAINTY_COLOUR
from brats_jax.viewer.slices import CLASS_COLOURS

CANVAS = "#slices"
WITHIN = np.s_[8:-8, 8:-8]  # the canvas but for the line around it when it has the focus
PREDICTION_OPACITY = 0.6


@pytest.fixture(scope="module")
def program() -> str:
    path = chromium.find()
    if path is None:
        pytest.skip("no Chromium; BRATS_CHROMIUM can name one")
    return path


@pytest.fixture(scope="module")
def pages(program, tmp_path_factory) -> dict[str, str]:
    """Addresses of the page of a case, and of a case without T1Gd and truth."""
    folder, case = tmp_path_factory.mktemp("pages"), make_case()
    images = case.images.copy()
    images[..., MODALITIES.index("t1gd")] = 0
    lacking = dataclasses.replace(case, images=images, truth=None, uncertainty=None, record={})
    noted = dataclasses.replace(case, notes=("a long note of many words " * 9, "x" * 200))
    ranges = dict.fromkeys(("WT", "TC", "ET", "NCR/NET", "ED"), (1.0, 2.0))
    lines = ("a note of one line", "and another one")
    brief = dataclasses.replace(case, notes=lines, ranges_ml=ranges)
    named = {"whole": case, "lacking": lacking, "noted": noted, "brief": brief}
    return {name: write_page(folder / f"{name}.html", c).as_uri() for name, c in named.items()}


@pytest.fixture(scope="module")
def browser(program, tmp_path_factory):
    running = chromium.Browser(program, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def page(browser, pages):
    """The opened page. It may report no error and load nothing but itself."""
    with no_complaints(browser):
        open_page(browser, pages["whole"])
        yield browser


@contextlib.contextmanager
def no_complaints(browser):
    """Checks that a page opened within the body reports no error and loads only itself."""
    browser.errors.clear()
    browser.requests.clear()
    yield
    browser.frame()
    assert not browser.errors
    page, *others = (url[:80] for url in browser.requests if not url.startswith("data:image/"))
    assert page.startswith("file:") and all(url.startswith(("data:", "blob:")) for url in others)


def open_page(browser, address, expected="ready"):
    browser.send("Emulation.setTouchEmulationEnabled", enabled=False)
    browser.send("Page.navigate", url=address)
    browser.wait_for("document.documentElement?.dataset.state")
    assert browser.run("document.documentElement.dataset.state") == expected


def where(browser) -> str:
    browser.frame()
    return browser.run("document.getElementById('where').textContent").split(",")[0]


def middle(browser) -> tuple[float, float]:
    x, y, width, height = browser.box(CANVAS)
    return x + width / 2, y + height / 2


def is_grey(picture) -> np.ndarray:
    return np.ptp(picture, -1) < 0.02


def test_every_class_is_drawn_in_radiological_orientation(page):
    """Anterior up, the patient's left on the right: x runs to Left, y to Posterior."""
    # NiiVue draws R and L at the edge of the canvas, which is off the edge of the black stage.
    left, _, width, height = page.box(CANVAS)
    assert left >= page.box("#stage")[0] + 6 and width <= page.box("#stage")[2] - 12
    assert page.run("document.querySelector(`#slices`).height") == round(height)
    picture = page.pixels(CANVAS)
    at = {}
    for name, code in CLASS_COLOURS.items():
        found = has_colour(picture, code, PREDICTION_OPACITY)
        at[name] = np.argwhere(found).mean(0)  # row, column
        # Voxels of 1 x 0.5 mm, and the slices fill the canvas: no class is a speck.
        assert found.sum() > 5000, name
    assert at["ET"][0] < at["NCR/NET"][0]  # y from 8 and from 13
    assert at["ET"][1] == pytest.approx(at["NCR/NET"][1], abs=3)
    assert at["ED"][1] > at["ET"][1] + 20 and at["ED"][0] > at["ET"][0]
    assert where(page) == "axial slice 3"


def test_wheel_mouse_and_keys_change_the_slice(page):
    x, y = middle(page)
    seen = []
    for delta in (100, 100, -100):
        page.mouse("Wheel", x, y, deltaX=0, deltaY=delta)
        seen.append(where(page))
    assert seen == [f"axial slice {k}" for k in (4, 5, 4)]
    first = page.pixels(CANVAS)
    height = page.box(CANVAS)[3]
    page.drag((x, y), (x, y - height / 14), (x, y - 3 * height / 14))
    assert where(page) == "axial slice 7"
    assert np.abs(page.pixels(CANVAS) - first).max() > 0.2
    page.drag((x, y), (x, y + 2 * height))  # beyond the window: as far as it goes
    assert where(page) == "axial slice 0"
    page.mouse("Moved", x, y - 100)  # let go: nothing sticks to the mouse
    assert where(page) == "axial slice 0"
    expected = {
        "ArrowUp": "axial slice 1", "PageUp": "axial slice 11", "PageDown": "axial slice 1",
        "ArrowDown": "axial slice 0", "Home": "axial slice 3", "c": "coronal slice 8",
        "s": "sagittal slice 10", "m": "axial slice 3", "a": "axial slice 3",
    }  # fmt: skip
    for key, place in expected.items():
        page.press(key)
        assert where(page) == place, key
    # The same from the canvas, on which NiiVue has keys of its own, and by the buttons.
    page.click(CANVAS)
    page.press("ArrowUp")
    assert where(page) == "axial slice 4"
    page.click("#on")
    page.click("#on")
    page.click("#back")
    assert where(page) == "axial slice 5"
    left, top, width, height = page.box("#slice")
    page.drag((left + width / 4, top + height / 2), (left + width - 1, top + height / 2))
    assert where(page) == "axial slice 13"
    page.click("input[value=coronal] + span")
    assert where(page) == "coronal slice 8"
    page.press("ArrowUp")  # of the slices, as everywhere, not of the choice of a plane
    assert where(page) == "coronal slice 9"


def test_a_double_click_resets_brightness_and_contrast(page):
    x, y = middle(page)
    first = page.pixels(CANVAS)
    page.drag((x - 60, y - 40), (x, y), (x + 60, y + 40), button="right")
    assert np.abs(page.pixels(CANVAS) - first).max() > 0.05
    for count in (1, 2):
        page.mouse("Pressed", x, y, button="left", buttons=1, clickCount=count)
        page.mouse("Released", x, y, button="left", clickCount=count)
    np.testing.assert_array_equal(page.pixels(CANVAS)[WITHIN], first[WITHIN])
    assert where(page) == "axial slice 3"


def test_a_trackpad_scrolls_slowly_and_zooms(page):
    """It sends many small steps, and a pinch as steps with Ctrl."""
    x, y = middle(page)
    whole = page.pixels(CANVAS)
    for delta, place in ((4, 5), (-4, 3)):
        for _ in range(20):
            page.mouse("Wheel", x, y, deltaX=0, deltaY=delta)
        assert where(page) == f"axial slice {place}"
    page.mouse("Wheel", x, y, deltaX=120, deltaY=0)
    assert where(page) == "axial slice 3"
    np.testing.assert_array_equal(page.pixels(CANVAS)[WITHIN], whole[WITHIN])
    page.mouse("Wheel", x, y, deltaX=0, deltaY=-60, modifiers=2)
    assert where(page) == "axial slice 3"
    assert np.abs(page.pixels(CANVAS) - whole)[WITHIN].max() > 0.2
    page.mouse("Wheel", x, y, deltaX=0, deltaY=600, modifiers=2)
    np.testing.assert_array_equal(page.pixels(CANVAS)[WITHIN], whole[WITHIN])


def test_one_finger_changes_the_slice_and_two_zoom(page):
    page.send("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    x, y = middle(page)
    height = page.box(CANVAS)[3]
    page.press("p")
    whole = page.pixels(CANVAS)
    page.touch([(x, y)], [(x, y - height / 14)], [(x, y - 2 * height / 14)])
    assert where(page) == "axial slice 5"
    page.touch([(x, y)], [(x, y + 2 * height / 14)])
    assert where(page) == "axial slice 3"
    np.testing.assert_array_equal(page.pixels(CANVAS), whole)
    # What is in the middle stays there, twice as large; the slice stays.
    pinch = [[(x - a, y), (x + a, y)] for a in (40, 60, 80)]
    page.touch(*pinch)
    assert where(page) == "axial slice 3"
    large = page.pixels(CANVAS)
    rows, columns = (n // 4 for n in whole.shape[:2])
    part = whole[rows:-rows, columns:-columns]
    found = np.repeat(np.repeat(part, 2, 0), 2, 1)[: large.shape[0], : large.shape[1]]
    inside = (slice(20, -20),) * 2  # but for the letters at the edge
    shown = large[: found.shape[0], : found.shape[1]]
    assert (np.abs(shown - found)[inside].max(-1) < 0.02).mean() > 0.9
    # Moved with both fingers, made smaller again, and never smaller than whole.
    page.touch([(x - 40, y), (x + 40, y)], [(x + 10, y), (x + 90, y)])
    assert np.abs(page.pixels(CANVAS) - large).max() > 0.2
    page.touch(*pinch[::-1])
    page.touch(*pinch[::-1])
    np.testing.assert_array_equal(page.pixels(CANVAS), whole)
    page.press("+")
    assert np.abs(page.pixels(CANVAS) - whole).max() > 0.2
    page.press("0")
    np.testing.assert_array_equal(page.pixels(CANVAS), whole)
    # In all planes at once a finger points; two do no harm there either.
    page.press("m")
    page.touch([(x, y)], [(x - 20, y - 20)])
    page.touch(*pinch)
    assert where(page).startswith("axial slice")


def test_every_modality_is_another_image(page):
    page.press("p")
    by_name = {}
    for key, name in enumerate(MODALITIES, 1):
        page.click(f"input[value={name}] + span")
        page.wait_for(f"document.querySelector('input[name=modality]:checked').value === '{name}'")
        picture = page.pixels(CANVAS)
        assert is_grey(picture).all() and np.ptp(picture) > 0.9
        for other, seen in by_name.items():
            assert (np.abs(picture - seen).max(-1) > 0.05).mean() > 0.2, other
        by_name[name] = picture
        page.press("1" if key > 1 else "4")
        page.press(str(key))
        np.testing.assert_array_equal(page.pixels(CANVAS), picture)


def test_layers_are_shown_and_hidden(page):
    case = make_case()
    with_prediction = page.pixels(CANVAS)
    page.click("input[value=prediction] + span")
    bare = page.pixels(CANVAS)
    assert is_grey(bare).all() and not is_grey(with_prediction).all()
    page.press("p")
    np.testing.assert_array_equal(page.pixels(CANVAS), with_prediction)
    page.press("p")
    page.click("input[value=truth] + span")
    outlined = page.pixels(CANVAS)
    # The edge of the tumour alone: 20 x 15 voxels of which 18 x 13 are within.
    drawn = ~is_grey(outlined)
    per_voxel = (~is_grey(with_prediction)).sum() / np.count_nonzero(case.labels[3])
    assert 60 * per_voxel < drawn.sum() < 130 * per_voxel
    for name, code in CLASS_COLOURS.items():
        assert has_colour(outlined, code, 1).sum() > 5 * per_voxel, name
    np.testing.assert_array_equal(outlined[~drawn], bare[~drawn])
    page.press("t")
    page.press("u")
    uncertain = ~is_grey(page.pixels(CANVAS))
    where_they_differ = np.count_nonzero(case.labels[3] != case.truth[3])
    assert uncertain.sum() == pytest.approx(where_they_differ * per_voxel, rel=0.05)
    assert has_colour(page.pixels(CANVAS), UNCERTAINTY_COLOUR, 0.75).sum() > 0.8 * uncertain.sum()
    page.click("input[value=uncertainty] + span")
    np.testing.assert_array_equal(page.pixels(CANVAS), bare)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 768, 1200, 1600])
def test_everything_fits_the_window(browser, pages, width, scheme):
    window = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.send("Emulation.setDeviceMetricsOverride", **window)
    colours = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.send("Emulation.setEmulatedMedia", features=colours)
    try:
        with no_complaints(browser):
            open_page(browser, pages["noted"])
            browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
            assert browser.run("document.documentElement.scrollWidth <= innerWidth")
            wide = browser.run(
                "[...document.querySelectorAll('body *:not(img, script, noscript, noscript *)')]"
                ".filter((e) => e.getBoundingClientRect().right > innerWidth)"
                ".map((e) => e.outerHTML)"
            )
            assert not wide
            _, top, _, height = browser.box(".notes")
            assert top + height < browser.box(CANVAS)[1]
            # The picture scrolls sideways where it would be too small to see.
            assert browser.box("#overview img")[2] >= 600
            ink = browser.run("getComputedStyle(document.querySelector('.notes li')).color")
            assert (ink == "rgb(230, 232, 234)") == (scheme == "dark")
    finally:
        browser.send("Emulation.clearDeviceMetricsOverride")
        browser.send("Emulation.setEmulatedMedia", features=[])


@pytest.mark.parametrize("size", [(1280, 720), (1400, 900), (1920, 1080)])
def test_image_and_buttons_are_in_the_window_together(browser, pages, size):
    width, height = size
    window = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.send("Emulation.setDeviceMetricsOverride", **window)
    try:
        with no_complaints(browser):
            open_page(browser, pages["brief"])
            _, top, wide, high = browser.box(CANVAS)
            assert high >= 240 and wide > high
            for name in ("modality", "plane", "layer"):
                _, at, _, tall = browser.box(f"label:has(input[name={name}])")
                assert top + high < at and at + tall <= height
            assert browser.box("#overview")[1] >= at + tall
            # The numbers beside the image do not lie over the picture: they scroll.
            assert sum(browser.box("aside")[1::2]) <= browser.box("#overview")[1]
    finally:
        browser.send("Emulation.clearDeviceMetricsOverride")


def test_the_full_record_unfolds(page):
    details = "document.getElementById('record')"
    assert not page.run(f"{details}.open")
    page.click("#record summary")
    assert page.run(f"{details}.open")
    assert json.loads(page.run(f"{details}.querySelector('pre').innerText")) == RECORD


def test_absent_modalities_cannot_be_selected(browser, pages):
    with no_complaints(browser):
        open_page(browser, pages["lacking"])
        chosen = "document.querySelector('input[name=modality]:checked').value"
        assert browser.run(chosen) == "t1"
        assert browser.run("document.querySelector('input[value=t1gd]').disabled")
        note = browser.run("document.getElementById('absent').textContent")
        assert note == f"No {DISPLAY_NAMES['t1gd']} image of this case was read."
        first = browser.pixels(CANVAS)
        browser.click("input[value=t1gd] + span")
        for key in ("2", "t", "u"):  # nor truth and uncertainty that are not there
            browser.press(key)
        np.testing.assert_array_equal(browser.pixels(CANVAS), first)
        browser.press("3")
        assert browser.run(chosen) == "t2"
        assert np.abs(browser.pixels(CANVAS) - first).max() > 0.2
        assert browser.run("document.getElementById('record')") is None


def test_without_webgl_the_page_says_so_and_keeps_its_picture(browser, pages):
    stub = "HTMLCanvasElement.prototype.getContext = () => null"
    added = browser.send("Page.addScriptToEvaluateOnNewDocument", source=stub)
    try:
        with no_complaints(browser):
            open_page(browser, pages["whole"], "failed")
            message = browser.run("document.getElementById('message').textContent")
            assert "no WebGL 2" in message
            assert browser.run("document.querySelector('#overview img').naturalWidth") > 300
    finally:
        browser.send("Page.removeScriptToEvaluateOnNewDocument", **added)


def test_the_page_cannot_reach_a_network(browser, pages):
    open_page(browser, pages["whole"])
    tried = browser.run(
        "new Promise((done) => {"
        " addEventListener('securitypolicyviolation', (event) => done(event.violatedDirective));"
        " fetch('https://example.invalid/').then(() => done('sent'), () => {}); })"
    )
    assert tried == "connect-src"
