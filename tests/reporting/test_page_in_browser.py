"""The page of a report in a real browser: no column of a table is lost, on screen or paper.

Needs a Chromium or Chrome on the PATH; BRATS_CHROMIUM names another one.
"""

import chromium
import pytest
from report_pages import read

# (id, columns, width of the table, width of its box, text of the hint or '') of each table.
TABLES = """[...document.querySelectorAll('.frame > .scroll')].map((box) => {
  const table = box.querySelector('table'), hint = document.getElementById(table.id + '-hint');
  return [table.id, table.tHead.rows[table.tHead.rows.length - 1].cells.length, box.scrollWidth,
    box.clientWidth, hint.hidden ? '' : hint.textContent, table.className];
})"""
PORTRAIT, LANDSCAPE = 703, 1032  # CSS pixels of A4 between its margins


@pytest.fixture(scope="module")
def browser(study_folder, tmp_path_factory):
    program = chromium.find()
    if program is None:
        pytest.skip("no Chromium; BRATS_CHROMIUM can name one")
    read(study_folder)
    running = chromium.Browser(program, tmp_path_factory.mktemp("profile"))
    running.send("Page.navigate", url=(study_folder / "report.html").as_uri())
    running.wait_for("document.readyState === 'complete'")
    running.run("document.querySelectorAll('main details').forEach((one) => { one.open = true })")
    yield running
    running.close()


def tables(browser, width, media=""):
    browser.send("Emulation.setEmulatedMedia", media=media)
    browser.send(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=900,
        deviceScaleFactor=1,
        mobile=False,
    )
    browser.frame()
    browser.frame()
    return browser.run(TABLES)


@pytest.mark.parametrize("width", [500, 1000, 1400, 1900])
def test_a_table_that_is_wider_than_its_box_says_how_many_columns_are_cut(browser, width):
    found = tables(browser, width)
    assert len(found) >= 10 and not browser.errors
    for name, columns, needed, given, hint, _ in found:
        assert bool(hint) == (needed > given + 1), name
        if hint:
            cut, _, count = hint.removeprefix("Scroll the table sideways: ").split()[:3]
            assert 0 < int(cut) < int(count) == columns, name
    # The page itself never scrolls sideways.
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_at_1400_pixels_most_tables_are_whole_and_at_1900_all(browser):
    hints = {name: hint for name, *_, hint, _ in tables(browser, 1400)}
    for name in ("primary_comparisons", "dice_dice_ce", "volumes_dice_ce", "against_yardsticks"):
        assert hints[name] == "", name
    assert not any(hint for *_, hint, _ in tables(browser, 1900))


def test_the_hint_of_a_table_that_was_scrolled_points_back(browser):
    wide = next(name for name, *_, hint, _ in tables(browser, 1000) if hint)
    box = f"document.getElementById('{wide}').parentElement"
    browser.run(f"{box}.scrollLeft = 9999")
    browser.frame()
    hints = {name: hint for name, *_, hint, _ in tables(browser, 1000)}
    assert hints[wide].startswith("\u2190 Scroll the table back")
    assert browser.run(f"!{box}.parentElement.classList.contains('cut')")
    browser.run(f"{box}.scrollLeft = 0")


def test_on_paper_every_column_is_there(browser):
    """Tables with very many columns are printed across the page."""
    for name, _, needed, _, _, breadth in tables(browser, PORTRAIT, "print"):
        if breadth != "widest":
            assert needed <= PORTRAIT, name
    across = [one for one in tables(browser, LANDSCAPE, "print") if one[-1] == "widest"]
    assert across
    for name, _, needed, *_ in across:
        assert needed <= LANDSCAPE, name
    assert browser.run(
        "[...document.querySelectorAll('table.widest')].every((table) => "
        "getComputedStyle(table.closest('article')).page === 'broad')"
    )
