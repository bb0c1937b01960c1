"""The columns of one model minus another: counts, means, difference, interval, p and outcome."""

from brats_jax.reporting import captions
from brats_jax.reporting.comparisons import TOO_FEW
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


INTERVALS = (
    "Intervals of 95 % over patients and trainings, or over patients alone for these trainings "
    "only, where the table says so."
)


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
        *(signed(x, digits) for x in (result.mean_difference, result.low, result.high)),
        p_value(adjusted, strong=strong),
        text(", ".join(x for x in (outcome, only) if x), strong=strong),
    ]
