"""The columns of one model minus another: counts, means, difference, interval, p and outcome."""

import math
from collections.abc import Iterable

from brats_jax.reporting import captions
from brats_jax.reporting.comparisons import TOO_FEW, are_too_few
from brats_jax.reporting.statistics import PairedDifference
from brats_jax.reporting.tables.table import (
    Column,
    TableCell,
    number,
    p_value,
    signed,
    text,
    whole,
)

ALONE = {TOO_FEW, "not tested", "not compared"}  # outcomes that need no further words


def holm_note(tests: int) -> str:
    """The correction of a table, for its caption."""
    return f"Holm’s correction over these {tests}." if tests > 1 else "One test: no correction."


NO_INTERVAL = (
    "No interval: the patients are too few to find a difference of any size, and an interval of so "
    "few is too narrow."
)


def intervals_note(results: Iterable[PairedDifference]) -> str:
    """What the intervals of a table are, for its caption; '' where no row has one.

    A space follows the sentence.
    """
    if all(are_too_few(result) for result in results):
        return ""
    return (
        "Intervals of 95 % over patients and trainings, or over patients alone for these trainings "
        "only, where the table says so. "
    )


def interval_cells(result: PairedDifference, digits: int) -> list[TableCell]:
    """Both ends of the interval; dashes with a footnote where the patients are too few."""
    if are_too_few(result):
        return [number(math.nan, notes=(NO_INTERVAL,))] * 2
    return [signed(end, digits) for end in (result.low, result.high)]


def paired_columns(a: str, b: str, mean: str, difference: str) -> list[Column]:
    """The columns of `paired_cells`.

    Args:
      a, b: names of the two models.
      mean, difference: heads above their means, and above the difference a - b.
    """
    return [
        Column("n patients"),
        Column("Trainings"),
        Column(b, mean),
        Column(a, mean),
        *(Column(name, difference) for name in ("mean", "low", "high")),
        Column("p (Holm)"),
        Column("Found", words=True),
    ]


def paired_cells(
    result: PairedDifference, adjusted: float, outcome: str, *, strong: bool, digits: int
) -> list[TableCell]:
    """The cells of one comparison.

    Args:
      result: of a - b.
      adjusted: p after Holm's correction.
      outcome: in words; that it holds for these trainings only is added where a test decided.
      strong: whether a difference was found.
      digits: decimals of means and differences.
    """
    some = result.only_these_trainings and outcome not in ALONE
    only = captions.these_only(result.trainings) if some else ""
    return [
        whole(result.n),
        whole(result.trainings),
        number(result.mean_b, digits),
        number(result.mean_a, digits),
        signed(result.mean_difference, digits),
        *interval_cells(result, digits),
        p_value(adjusted, strong=strong),
        text(", ".join(x for x in (outcome, only) if x), strong=strong),
    ]
