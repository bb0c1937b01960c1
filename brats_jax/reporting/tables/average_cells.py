"""Cells of means over trainings: the number, its count, and a footnote about what it leaves out."""

from collections.abc import Sequence

from brats_jax.reporting.arms import EvaluatedStage, Key
from brats_jax.reporting.averages import absences, average
from brats_jax.reporting.tables.table import TableCell, number, text

# What captions say about these cells.
COUNT_NOTE = (
    "In brackets: number of {unit}s averaged in a training, of all where some are left out. A "
    "footnote names the trainings without a value"
)
ABSENCE_NOTE = (
    "Missed: the truth holds the region, the prediction is empty; invented: the reverse; both are "
    "{unit}s summed over the trainings. ASD and HD95 leave these out; with penalty each counts "
    "373.13 mm"
)


def average_cell(
    group: Sequence[EvaluatedStage], key: Key, digits: int, *, counted: bool = True
) -> TableCell:
    """The mean of a number over the trainings of a group.

    Args:
      counted: whether to show the number of units also where none is left out.
    """
    mean = average(group, key)
    show = counted or mean.most_units != mean.all_units or mean.least_units != mean.most_units
    return number(
        mean.mean,
        digits,
        mean.most_units if show else None,
        least=mean.least_units,
        of=mean.all_units,
        trainings=(mean.trainings, mean.all_trainings),
        notes=(mean.note,) if mean.note else (),
    )


def absence_cells(group: Sequence[EvaluatedStage], key: Key) -> tuple[TableCell, TableCell]:
    """(missed, invented) of the units and the region of `key`: '3 of 20'."""
    found = absences(group, key)
    if found is None:
        return text("–"), text("–")
    pairs = ((found.missed, found.of_missed), (found.invented, found.of_invented))
    missed, invented = (text(f"{n:,} of {of:,}") for n, of in pairs)
    return missed, invented
