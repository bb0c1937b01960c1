"""Finds every contradiction between the paper's printed numbers.

Four checks of numbers: a mean against its five folds in the appendix, two printings of the
same mean, an average over classes against these classes, and a fold quoted in the text
against its table. `claims` and `references` check sentences; `method` lists contradictions
in the description of the method.
"""

from collections.abc import Iterable, Iterator

from brats_jax.reporting.paper.claims import check_claims
from brats_jax.reporting.paper.findings import (
    Finding,
    PrintedCell,
    Reading,
    disagreement,
    is_truncated,
    plain,
    rounded,
)
from brats_jax.reporting.paper.method import check_method
from brats_jax.reporting.paper.printed_numbers import Number, printed_numbers
from brats_jax.reporting.paper.printed_tables import (
    CLASSES,
    FOREGROUND,
    LOSSES,
    TABLES,
    TABLES_OF_LOSS,
)
from brats_jax.reporting.paper.references import check_captions, check_references

_METRICS = {
    "dice": "Dice",
    "asd_mm": "ASD",
    "mse": "MSE",
    "psnr_db": "PSNR (dB)",
    "ssim": "SSIM",
}


def find_inconsistencies(printed: Iterable[Number] | None = None) -> list[Finding]:
    """All contradictions: numbers first, in the order of the tables, then sentences.

    Args:
      printed: the numbers to check; the paper's by default.
    """
    reading = Reading(printed_numbers() if printed is None else printed)
    return [
        *check_fold_means(reading),
        *check_two_printings(reading),
        *check_class_averages(reading),
        *check_quoted_folds(reading),
        *check_claims(reading),
        *check_references(reading),
        *check_captions(reading),
        *check_method(),
    ]


def by_cell(findings: Iterable[Finding]) -> dict[PrintedCell, list[Finding]]:
    """(table, row, column) -> findings to show as footnotes of the cell."""
    marks: dict[PrintedCell, list[Finding]] = {}
    for finding in findings:
        for cell in finding.cells:
            marks.setdefault(cell, []).append(finding)
    return marks


def check_fold_means(reading: Reading) -> Iterator[Finding]:
    """Compares every printed mean with the mean of its five folds in the appendix."""
    for n in reading.numbers:
        mean = reading.fold_mean(n) if n.fold is None else None
        if mean is None:
            continue
        printed = reading.estimate(n)
        kind = disagreement(printed, mean)
        if kind is None:
            continue
        expected = plain(mean.value)
        folds = TABLES["A1" if not n.loss else TABLES_OF_LOSS[n.loss][1]].title
        why = (
            "no rounding explains it"
            if kind == "definite"
            else f"that rounds to {rounded(mean.value, reading.decimals(n))}; rounding of the "
            "folds could explain the difference"
        )
        if is_truncated(printed, mean.value):
            why += (
                f". Truncated instead of rounded, it is "
                f"{rounded(printed.value, reading.decimals(n))}"
            )
        sentence = (
            f"{_place(n)} prints {n.printed} for {_quantity(n)}, where the folds of {folds} "
            f"average {expected}: {why}."
        )
        yield Finding(where(n), (n[:3],), n.printed, expected, kind, "fold means", sentence)


def check_two_printings(reading: Reading) -> Iterator[Finding]:
    """Compares numbers of Table 6 and of the text with the same number in an earlier table."""
    for n in reading.numbers:
        if n.table not in ("6", "text") or n.fold is not None:
            continue
        # As text, '3' < '6' < 'text'.
        earlier = [o for o in reading.same(n) if o.table in TABLES and o.table < n.table]
        for other in earlier:
            pair = reading.estimate(n), reading.estimate(other)
            coarser_first = sorted(pair, key=lambda e: e.half, reverse=True)
            kind = disagreement(*coarser_first)
            if kind is None:
                continue
            folds = ""
            mean = reading.fold_mean(n)
            if mean is not None:
                folds = f"; the folds average {plain(mean.value)}"
                if disagreement(pair[1], mean) and is_truncated(pair[1], mean.value):
                    folds += f", which {_place(other)} truncates"
            sentence = (
                f"{_place(n)} prints {n.printed} for {_quantity(n)}, {_place(other)} prints "
                f"{other.printed} for the same{folds}."
            )
            cells = (n[:3], other[:3])
            yield Finding(
                where(n), cells, n.printed, other.printed, kind, "two printings", sentence
            )


def check_class_averages(reading: Reading) -> Iterator[Finding]:
    """Compares an average over classes 1 to 3 with the classes of the table it belongs to.

    The text names Table 3 for its mean Dice, so the classes of that table are compared.
    """
    for n in reading.numbers:
        if n.of != FOREGROUND:
            continue
        table = "6" if n.table == "6" else TABLES_OF_LOSS[n.loss][0]
        classes = [c for k in CLASSES[1:] for c in reading.same(n, of=k) if c.table == table]
        mean = reading.mean(classes)
        kind = disagreement(reading.estimate(n), mean)
        if kind is None:
            continue
        values = ", ".join(c.printed for c in classes)
        why = "no rounding explains it" if kind == "definite" else "rounding could explain it"
        sentence = (
            f"{_place(n)} prints {n.printed} for {_quantity(n)}, where the three classes of "
            f"{TABLES[table].title} ({values}) average {plain(mean.value)}: {why}."
        )
        expected = plain(mean.value)
        yield Finding(where(n), (n[:3],), n.printed, expected, kind, "own classes", sentence)


def check_quoted_folds(reading: Reading) -> Iterator[Finding]:
    """Compares a fold that the text quotes with that fold in the appendix."""
    for n in reading.numbers:
        if n.table != "text" or n.fold is None:
            continue
        for other in reading.same(n):
            kind = disagreement(reading.estimate(n), reading.estimate(other))
            if other is n or kind is None:
                continue
            sentence = (
                f"{_place(n)} quotes {n.printed} for {_quantity(n)}, {_place(other)} prints "
                f"{other.printed}."
            )
            cells = (n[:3], other[:3])
            yield Finding(where(n), cells, n.printed, other.printed, kind, "fold quoted", sentence)


def where(number: Number) -> str:
    """The place of a number in words: 'Table 4, ASD Class 0, SSL (pretrained)'."""
    table = TABLES[number.table]
    row = table.rows[number.row]
    if number.table == "text":
        return f"Section {row[0]}, {row[1]}, {table.columns[number.column]}"
    label = {"6": f"{row[0]} {row[1]}", "A1": f"fold {row[0]}"}.get(number.table, row[0])
    if number.table in ("A2", "A3", "A4"):
        label = f"{row[0]} fold {row[1]}"
    return f"{table.title}, {label}, {table.columns[number.column]}"


def _place(number: Number) -> str:
    if number.table == "text":
        return f"The text of Section {TABLES['text'].rows[number.row][0]}"
    return TABLES[number.table].title


def _quantity(number: Number) -> str:
    """'the Dice of ED under Dice + Focal without SSL, fold 4'."""
    metric = _METRICS[number.metric]
    if number.of == FOREGROUND:
        metric = f"mean {metric}"
    if not number.loss:
        return f"the {metric} of the reconstruction"
    of = "classes 1 to 3" if number.of == FOREGROUND else number.of
    ssl = "with SSL" if number.ssl else "without SSL"
    fold = "" if number.fold is None else f", fold {number.fold}"
    return f"the {metric} of {of} under {LOSSES[number.loss]} {ssl}{fold}"
