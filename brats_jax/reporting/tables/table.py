"""One table of the report: cells, columns, and the rounding of its numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

_WIDE, _WIDEST = 10, 14  # more columns have smaller letters, and are printed across the page
UNDEFINED = "–"  # a number that does not exist, such as a distance to an empty mask


@dataclass(frozen=True)
class TableCell:
    """One cell.

    Attributes:
      text: the text shown.
      value: the unrounded number, for sorting and CSV; None for words.
      count: number of slices or patients averaged, shown small beside the number; the largest of
        several trainings.
      least: the smallest number of them, where it differs.
      of: number of slices or patients with those left out.
      trainings: (with a value, all), in CSV; the page has a footnote where they differ.
      notes: footnotes; the cell is marked with their letters.
      paper: whether the paper prints this number.
      strong: whether to show the cell in bold.
    """

    text: str
    value: float | None = None
    count: int | None = None
    notes: tuple[str, ...] = ()
    paper: bool = False
    strong: bool = False
    least: int | None = None
    of: int | None = None
    trainings: tuple[int, int] | None = None

    @property
    def counted(self) -> str:
        """'4', '0 to 4', '4 of 1,200' slices or patients; '' without a count."""
        if self.count is None:
            return ""
        least = "" if self.least in (None, self.count) else f"{self.least:,} to "
        some = least or self.of != self.count
        return f"{least}{self.count:,}{f' of {self.of:,}' if self.of and some else ''}"

    @property
    def exact(self) -> str:
        """The cell in CSV: six significant digits, empty where undefined."""
        if self.value is None:
            return "" if self.text == UNDEFINED else self.text
        return "" if math.isnan(self.value) else f"{self.value:.6g}"


EMPTY = TableCell("")


def number(
    value: float | None, digits: int = 3, count: int | None = None, **more: Any
) -> TableCell:
    """A number rounded to `digits` decimals; a dash for NaN and None."""
    if value is None or math.isnan(value):
        return TableCell(UNDEFINED, math.nan, count, **more)
    text = f"{value:.{digits}f}"
    # A nearly perfect score must not be rounded to a perfect one.
    if digits >= 3 and text == f"{1:.{digits}f}" and value < 1:
        text = f"{value:.{digits + 2}f}"
    return TableCell(text, float(value), count, **more)


def signed(value: float, digits: int) -> TableCell:
    """A difference with its sign, '+0.014'; without a sign where it rounds to zero."""
    if math.isnan(value):
        return number(value, digits)
    shown = f"{value:+.{digits}f}"
    return TableCell(shown[1:] if float(shown) == 0 else shown, value)


def p_value(value: float, strong: bool = False) -> TableCell:
    """A p value with three decimals, '< 0.001' below that."""
    if math.isnan(value):
        return number(value)
    return TableCell("< 0.001" if value < 0.001 else f"{value:.3f}", value, strong=strong)


def whole(value: int | None) -> TableCell:
    """A count with a comma between thousands; a dash for None."""
    return (
        TableCell(UNDEFINED, math.nan) if value is None else TableCell(f"{value:,}", float(value))
    )


def text(words: object, **more: Any) -> TableCell:
    """A cell of words."""
    return TableCell(str(words), **more)


@dataclass(frozen=True)
class Column:
    """A column: its head, the head that it shares with its neighbours, numbers or words."""

    title: str
    group: str = ""
    words: bool = False

    @property
    def name(self) -> str:
        """Shared and own head on one line."""
        return f"{self.group} {self.title}".strip()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      name: stem of its files.
      number: 'Table 3' as in the paper; '' for a table that the paper does not have, which
        gets its number when the page is put together.
      title: its content in a few words.
      caption: convention, split, patients, slices.
      columns, rows: every row has a cell for each column.
      detail: whether the page shows it folded at first.

    Raises:
      ValueError: a row is too short or too long, or there is none.
    """

    name: str
    number: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    detail: bool = False
    kind: str = field(default="table", init=False)

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.columns)]
        if wrong or not self.rows:
            raise ValueError(
                f"table {self.name}: {len(self.rows)} rows; these do not have "
                f"{len(self.columns)} cells: {wrong}"
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """Every footnote once, in the order of the cells."""
        return tuple(dict.fromkeys(n for row in self.rows for cell in row for n in cell.notes))

    def marks(self, cell: TableCell) -> str:
        """The letters of a cell's footnotes: 'a, b'."""
        notes = self.notes
        return ", ".join(letter(notes.index(note)) for note in cell.notes)

    @property
    def breadth(self) -> str:
        """'' for few columns; 'wide' and 'widest' tables have smaller letters on the page."""
        count = len(self.columns)
        return "widest" if count > _WIDEST else "wide" if count > _WIDE else ""

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
    rows: Iterable[Sequence[TableCell]],
    detail: bool = False,
) -> Table | None:
    """A table, or None where it would have no rows."""
    found = tuple(tuple(row) for row in rows)
    return Table(name, number, title, caption, tuple(columns), found, detail) if found else None


def letter(index: int) -> str:
    """The letter of a footnote: a, b, ... z, aa, ab, ..."""
    first, second = divmod(index, 26)
    return (chr(ord("a") + first - 1) if first else "") + chr(ord("a") + second)
