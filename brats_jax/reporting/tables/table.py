"""A table of the report, and the same table as CSV, Markdown and LaTeX.

Shown are sensible digits; CSV has six. All forms are made from the same cells.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from brats_jax.runtime.files import write_text

UNDEFINED = "–"  # a number that does not exist, such as a distance to an empty mask

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
# What a plain LaTeX installation has no letters for.
_PLAIN = {"γ": "gamma", "≥": ">=", "≤": "<=", "−": "-", "→": "->"}


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
      text: as shown.
      value: the number behind it, for sorting and CSV; None for words.
      count: units behind it, shown small beside it.
      notes: sentences below the table that the cell is marked with.
      paper: whether it is the paper's number.
      strong: whether it stands out (a finding).
    """

    text: str
    value: float | None = None
    count: int | None = None
    notes: tuple[str, ...] = ()
    paper: bool = False
    strong: bool = False

    @property
    def exact(self) -> str:
        """What CSV holds."""
        if self.value is None:
            return "" if self.text == UNDEFINED else self.text
        return "" if math.isnan(self.value) else f"{self.value:.6g}"


EMPTY = Cell("")


def number(value: float | None, digits: int = 3, count: int | None = None, **more: Any) -> Cell:
    """A number cell; NaN and None are shown as undefined."""
    if value is None or math.isnan(value):
        return Cell(UNDEFINED, math.nan, **more)
    text = f"{value:.{digits}f}"
    # Sensible digits must not make a perfect score of a nearly perfect one.
    if digits >= 3 and text == f"{1:.{digits}f}" and value < 1:
        text = f"{value:.{digits + 2}f}"
    return Cell(text, float(value), count, **more)


def whole(value: int | None) -> Cell:
    """A count, thousands apart."""
    return Cell(UNDEFINED, math.nan) if value is None else Cell(f"{value:,}", float(value))


def text(words: object, **more: Any) -> Cell:
    """A cell of words."""
    return Cell(str(words), **more)


@dataclass(frozen=True)
class Column:
    """A column: its head, a head that it shares with its neighbours, numbers or words."""

    title: str
    group: str = ""
    words: bool = False

    @property
    def name(self) -> str:
        """Its full head, on one line."""
        return f"{self.group} {self.title}".strip()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      name: of its files.
      number: 'Table 3', as in the paper; '' for one that it does not have, until it has its place.
      title: what it is, in a few words.
      caption: convention, split, patients, slices.
      columns, rows: as long as each other.
      detail: whether it is folded away at first.
    """

    name: str
    number: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    detail: bool = False
    kind: str = field(default="table", init=False)

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.columns)]
        if wrong or not self.rows:
            raise ValueError(f"{self.name}: {len(self.rows)} rows, of other lengths: {wrong}")

    @property
    def notes(self) -> tuple[str, ...]:
        """Every note once, in the order of the cells."""
        return tuple(dict.fromkeys(n for row in self.rows for cell in row for n in cell.notes))

    def marks(self, cell: Cell) -> str:
        """'a, b': which notes a cell refers to."""
        notes = self.notes
        return ", ".join(letter(notes.index(note)) for note in cell.notes)

    @property
    def groups(self) -> list[tuple[str, int]]:
        """(shared head, columns below it) from left to right; [] where none is shared."""
        if not any(column.group for column in self.columns):
            return []
        runs: list[tuple[str, int]] = []
        for column in self.columns:
            if runs and column.group and runs[-1][0] == column.group:
                runs[-1] = (column.group, runs[-1][1] + 1)
            else:
                runs.append((column.group, 1))
        return runs


def make_table(
    name: str,
    number: str,
    title: str,
    caption: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell]],
    detail: bool = False,
) -> Table | None:
    """A table, or None where it would have no rows."""
    found = tuple(tuple(row) for row in rows)
    return Table(name, number, title, caption, tuple(columns), found, detail) if found else None


def letter(index: int) -> str:
    """a, b, ... z, aa, ab, ..."""
    first, second = divmod(index, 26)
    return (chr(ord("a") + first - 1) if first else "") + chr(ord("a") + second)


def to_csv(table: Table) -> str:
    """Values in six digits; counts, where there are, in columns of their own, notes in the last."""
    counted = [any(row[k].count is not None for row in table.rows) for k in range(_width(table))]
    head = []
    for column, has in zip(table.columns, counted, strict=True):
        head += [column.name, f"{column.name} n"] if has else [column.name]
    noted = bool(table.notes)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*head, "notes"] if noted else head)
    for row in table.rows:
        line = []
        for cell, has in zip(row, counted, strict=True):
            line.append(cell.exact)
            if has:
                line.append("" if cell.count is None else str(cell.count))
        if noted:
            line.append(" ".join(dict.fromkeys(n for cell in row for n in cell.notes)))
        writer.writerow(line)
    return out.getvalue()


def to_markdown(table: Table) -> str:
    """GitHub's form, notes below."""
    rows = [[_markdown(_shown(table, cell)) for cell in row] for row in table.rows]
    body = tabulate(
        rows,
        [_markdown(column.name) for column in table.columns],
        tablefmt="pipe",  # GitHub reads it, and it says which columns are right-aligned
        disable_numparse=True,
        colalign=_alignment(table),
    )
    title, caption = _markdown(table.title), _markdown(table.caption)
    lines = [f"**{table.number}. {title}**", "", body, "", caption]
    notes = [f"- {letter(k)}: {_markdown(note)}" for k, note in enumerate(table.notes)]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def to_latex(table: Table) -> str:
    """A table environment; needs the package booktabs."""
    # tabulate escapes what is special to LaTeX in cells.
    rows = [[_plain(_shown(table, cell)) for cell in row] for row in table.rows]
    body = tabulate(
        rows,
        [_plain(column.name) for column in table.columns],
        tablefmt="latex_booktabs",
        disable_numparse=True,
        colalign=_alignment(table),
    )
    # After the end of a row LaTeX takes a [ or * for the command's own.
    body = re.sub(r"(?m)^(\s*)(?=[\[*])", r"\1{}", body)
    notes = [f"\\\\ {letter(k)}: {latex(note)}" for k, note in enumerate(table.notes)]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{latex(table.title)}. {latex(table.caption)}}}",
            f"\\label{{tab:{table.name}}}",
            body,
            *([f"\\par\\footnotesize {' '.join(notes)[3:]}"] if notes else []),
            "\\end{table}",
            "",
        ]
    )


def latex(words: str) -> str:
    """Words with what is special to LaTeX escaped."""
    return "".join(_LATEX.get(c, c) for c in _plain(words))


def write(table: Table, folder: Path) -> list[Path]:
    """Writes NAME.csv, NAME.md and NAME.tex."""
    forms = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
    paths = []
    for ending, form in forms.items():
        path = folder / f"{table.name}.{ending}"
        write_text(path, form(table))
        paths.append(path)
    return paths


def _width(table: Table) -> int:
    return len(table.columns)


def _alignment(table: Table) -> list[str]:
    return ["left" if column.words else "right" for column in table.columns]


def _shown(table: Table, cell: Cell) -> str:
    shown = cell.text if cell.count is None else f"{cell.text} ({cell.count:,})"
    marks = table.marks(cell)
    return f"{shown} [{marks}]" if marks else shown


def _markdown(words: str) -> str:
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return words.replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


def _plain(words: str) -> str:
    return "".join(_PLAIN.get(c, c) for c in words)
