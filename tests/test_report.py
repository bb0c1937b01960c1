"""The report of hand-made run folders: whole, partial and broken ones."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_examples import write_run

from brats_jax.errors import BratsError
from brats_jax.reporting import page

VOID = {"meta", "link", "img", "br", "hr", "input", "col", "path", "use", "rect"}


class Page(HTMLParser):
    """Text, what is loaded from elsewhere, and tags that are closed out of turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.loaded, self.ids = [], [], []
        self.open, self.wrong = [], []
        self.tables = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tables += tag == "table"
        if "id" in given:
            self.ids.append(given["id"])
        if "src" in given:
            self.loaded.append(given["src"])
        if tag == "link":
            self.loaded.append(given.get("href"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)


def read(workdir: Path) -> tuple[Page, str]:
    html = page.write_report(workdir).read_text()
    parsed = Page(html)
    return parsed, " ".join(" ".join(parsed.words).split())


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Three losses with and without pretraining, two folds."""
    folder = tmp_path_factory.mktemp("study")
    for loss in ("dice_ce", "dice_focal", "focal"):
        for ssl in (True, False):
            name = f"{loss}-{'ssl' if ssl else 'base'}"
            write_run(folder / name, loss=loss, ssl=ssl, folds=(0, 1))
    return folder


def test_one_page_that_needs_nothing_else(study):
    parsed, words = read(study)
    assert not parsed.wrong and not parsed.open
    assert all(source.startswith("data:") for source in parsed.loaded)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.tables >= 10
    # The paper's own numbers stand in it, and where its tables disagree with its folds.
    for printed in ("0.540", "0.484", "37.610", "0.916"):
        assert printed in words, printed
    assert "present only" in words and "by patient" in words


def test_every_table_is_there_in_three_forms(study):
    page.write_report(study)
    folder = study / "report"
    tables = {path.stem for path in folder.rglob("*.csv")}
    assert len(tables) >= 10
    for suffix in (".md", ".tex"):
        assert {path.stem for path in folder.rglob(f"*{suffix}")} >= tables
    for path in folder.rglob("*.csv"):
        rows = list(csv.reader(path.open()))
        assert len(rows) >= 2, f"{path.name} is empty"
        assert len({len(row) for row in rows}) == 1, f"{path.name} is ragged"
    for path in folder.rglob("*.tex"):
        body = path.read_text().split("\n", 1)[1]  # after a comment
        assert not re.search(r"(?<!\\)[%#]", body), f"{path.name}: not escaped"


@pytest.mark.parametrize("ssl", [True, False])
def test_a_single_run_says_what_is_missing(tmp_path, ssl):
    write_run(tmp_path / "run", ssl=ssl)
    parsed, words = read(tmp_path / "run")
    assert not parsed.wrong and not parsed.open
    assert "no comparison" in words.lower() or "missing" in words.lower()


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(BratsError, match=re.escape(str(tmp_path))):
        page.write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
