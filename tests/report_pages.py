"""Writes reports of hand-made run folders and reads their pages and tables. Not tests."""

import csv
from html.parser import HTMLParser
from pathlib import Path

from report_examples import write_run

from brats_jax.reporting import page

VOID = {"meta", "link", "img", "br", "hr", "input", "col", "path", "use", "rect"}


class Page(HTMLParser):
    """A parsed page.

    Attributes:
      words: its text.
      loaded: addresses of images, scripts and styles.
      ids: of its elements.
      open, wrong: tags that are never closed, or closed in the wrong order.
      tables: their number.
    """

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
    """Writes the report; returns its page and its text."""
    html = page.write_report(workdir)[0].read_text()
    parsed = Page(html)
    return parsed, " ".join(" ".join(parsed.words).split())


def table(workdir: Path, name: str) -> list[dict[str, str]]:
    """The rows of a table of the report, from its CSV."""
    with (workdir / "report" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def write_both(folder: Path, **more) -> Path:
    """Writes FOLDER/ssl and FOLDER/base, a run without pretraining and with more errors."""
    for ssl in (True, False):
        name = "ssl" if ssl else "base"
        write_run(folder / name, ssl=ssl, error=0.2 if ssl else 0.3, patients=6, **more)
    return folder


def secondary(workdir: Path) -> list[dict[str, str]]:
    """The rows of the secondary comparisons; [] without any."""
    found = (workdir / "report" / "secondary_comparisons.csv").exists()
    return table(workdir, "secondary_comparisons") if found else []
