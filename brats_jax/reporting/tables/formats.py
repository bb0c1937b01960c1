"""A table as CSV, Markdown and LaTeX, all made from the same cells.

Markdown and LaTeX hold the rounded numbers of the page, CSV six significant digits.
"""

import csv
import io
import re
from collections.abc import Callable

from tabulate import tabulate

from brats_jax.reporting.tables.table import Table, TableCell, letter
from brats_jax.runtime.text import csv_cell, printable

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
# Characters that a plain LaTeX installation cannot typeset.
_PLAIN = {"γ": "gamma", "≥": ">=", "≤": "<=", "−": "-", "→": "->", "●": "x", "○": "-"}


def files(table: Table) -> dict[str, str]:
    """NAME.csv, NAME.md and NAME.tex: their contents by name."""
    forms = (("csv", to_csv), ("md", to_markdown), ("tex", to_latex))
    return {f"{table.name}.{ending}": form(table) for ending, form in forms}


def to_csv(table: Table) -> str:
    """CSV; counts are in columns of their own, footnotes in the last column.

    'NAME n' is the number of slices or patients averaged in a training, 'NAME least n' the smallest
    where trainings differ, 'NAME of' the number with those left out, and 'NAME trainings' the
    trainings with a value, as '4 of 5'.
    """
    extra = [
        [
            (name, value)
            for name, value in _COUNTS.items()
            if any(value(row[k]) for row in table.rows)
        ]
        for k in range(_width(table))
    ]
    head = []
    for column, counts in zip(table.columns, extra, strict=True):
        head += [column.name, *(f"{column.name} {name}" for name, _ in counts)]
    noted = bool(table.notes)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*head, "notes"] if noted else head)
    for row in table.rows:
        line = []
        for cell, counts in zip(row, extra, strict=True):
            line.append(cell.exact if cell.value is not None else csv_cell(cell.exact))
            line += [value(cell) for _, value in counts]
        if noted:
            line.append(" ".join(dict.fromkeys(n for cell in row for n in cell.notes)))
        writer.writerow(line)
    return out.getvalue()


def _least(cell: TableCell) -> str:
    return "" if cell.count is None or cell.least in (None, cell.count) else str(cell.least)


_COUNTS: dict[str, Callable[[TableCell], str]] = {
    "n": lambda cell: "" if cell.count is None else str(cell.count),
    "least n": _least,
    "of": lambda cell: str(cell.of) if cell.count is not None and cell.of else "",
    "trainings": lambda cell: "{} of {}".format(*cell.trainings) if cell.trainings else "",
}


def to_markdown(table: Table) -> str:
    """GitHub Markdown with the caption and footnotes below the table."""
    rows = [[_markdown(_shown(table, cell)) for cell in row] for row in table.rows]
    body = tabulate(
        rows,
        [_markdown(column.name) for column in table.columns],
        tablefmt="pipe",  # unlike 'github', it marks right-aligned columns
        disable_numparse=True,
        colalign=_alignment(table),
    )
    title, caption = _markdown(table.title), _markdown(table.caption)
    lines = [f"**{table.number}. {title}**", "", body, "", caption]
    notes = [f"- {letter(k)}: {_markdown(note)}" for k, note in enumerate(table.notes)]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def to_latex(table: Table) -> str:
    """A table environment; it needs the package booktabs."""
    # tabulate escapes the cells itself.
    rows = [[_plain(_shown(table, cell)) for cell in row] for row in table.rows]
    body = tabulate(
        rows,
        [_plain(column.name) for column in table.columns],
        tablefmt="latex_booktabs",
        disable_numparse=True,
        colalign=_alignment(table),
    )
    # LaTeX reads [ or * after the end of a row as an argument of \\.
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
    """Words with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(c, c) for c in _plain(words))


def _width(table: Table) -> int:
    return len(table.columns)


def _alignment(table: Table) -> list[str]:
    return ["left" if column.words else "right" for column in table.columns]


def _shown(table: Table, cell: TableCell) -> str:
    shown = f"{cell.text} ({cell.counted})" if cell.counted else cell.text
    marks = table.marks(cell)
    return f"{shown} [{marks}]" if marks else shown


def _markdown(words: str) -> str:
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    words = words.replace("|", "\\|").replace("*", "\\*").replace("`", "\\`")
    return printable(words.replace("](", "]\\(").replace("\n", " "))


def _plain(words: str) -> str:
    return printable("".join(_PLAIN.get(c, c) for c in words))
