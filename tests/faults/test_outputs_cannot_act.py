"""Names from outside cannot act in tables, on pages and terminals; nothing tells of the machine."""

import csv

import pytest
from report_examples import write_run
from report_pages import Page

from brats_jax.reporting.page import write_report
from brats_jax.runs.settings_comparison import without_paths
from brats_jax.runtime.text import csv_cell, one_line, printable, without_folders

NAMES = ("=HYPERLINK(1)", "@SUM(1)", "<script>alert(1)<", "[x](javascript:1)")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A report on runs whose folders have such names, one of them unreadable."""
    folder = tmp_path_factory.mktemp("secret_place") / "study"
    for name in NAMES:
        settings = {"encoder_init": f"/home/somebody/{len(name)}/w.npz"} if "S" in name else {}
        write_run(
            folder / name,
            folds=(0,),
            store="/home/somebody/stores/s",
            patients=3,
            settings=settings,
        )
    (folder / NAMES[0] / "fold_0" / "evaluation.json").write_text("{")
    write_report(folder)
    return folder


def test_no_cell_of_a_table_is_a_formula(study):
    cells = [
        cell
        for path in (study / "report").glob("*.csv")
        for row in csv.reader(path.open())
        for cell in row
    ]
    assert {f"'{name}" for name in NAMES[1:2]} <= set(cells)
    assert not [cell for cell in cells if cell[:1] in ("=", "@", "\t")]


def test_no_name_is_a_script_or_a_link(study):
    text = (study / "report.html").read_text()
    assert "<script>alert" not in text and "alert(1)" in text
    page = Page(text)
    assert not page.wrong and not page.open
    for path in (study / "report").glob("*.md"):
        assert "](javascript" not in path.read_text()


def test_nothing_that_is_passed_on_names_the_folders_of_the_machine(study):
    for path in study.rglob("report*/**/*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"secret_place" not in content and b"somebody" not in content, path
    page = (study / "report.html").read_bytes()
    assert b"secret_place" not in page and b"somebody" not in page
    config = {
        "data": {"store": "/a/b"},
        "encoder_init": "/c/w.safetensors",
        "seed": 0,
        "x": ["/d/e"],
    }
    assert without_paths(config) == {
        "data": {"store": ""}, "encoder_init": "w.safetensors", "seed": 0, "x": ["e"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        ("\t=1", "'\t=1"),
        ("\uff1d1", "'\uff1d1"),
        ("-0.5", "-0.5"),
        ("+0.014", "+0.014"),
        ("-0.02 to 0.1", "-0.02 to 0.1"),
        ("BraTS-GLI-1", "BraTS-GLI-1"),
        ("", ""),
    ],
)
def test_a_cell_that_a_spreadsheet_would_compute_is_text(text, shown):
    assert csv_cell(text) == shown


def test_control_characters_and_marks_of_direction_are_shown():
    assert printable("a\x1b[2J\u202eb\x9b\udcfc\r") == r"a\x1b[2J\u202eb\x9b\udcfc\r"
    assert (
        one_line(f"a\n b\tc {'9' * 4400}").startswith("a b c 999")
        and len(one_line("9" * 9999)) < 300
    )
    assert without_folders("at /home/me/run/a.json: 1/2 of https://x.org/a/b") == (
        "at a.json: 1/2 of https://x.org/a/b"
    )
