"""Means over the trainings of an arm, with everything that they leave out.

A training that misses a region everywhere has no distance to it. Its fold would vanish from a mean
that says nothing more, and the arm that misses more would look better.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from brats_jax.reporting.arms import Key, Measured, fold_means

# The metrics that leave out a region that one mask lacks.
DISTANCES = ("asd_mm", "asd_averaged_mm", "asd_pred_to_gt_mm", "asd_gt_to_pred_mm", "hd95_mm")


class Average(NamedTuple):
    """A mean over folds of the mean over seeds.

    Attributes:
      mean: NaN without any value.
      most: units (slices or patients) averaged in a training, the largest number.
      least: the smallest number, 0 for a training without a value.
      of: units of a training, with those left out; 0 if unknown.
      trainings: with a value.
      of_trainings: all.
      without: the others in words, such as 'fold 1'.
    """

    mean: float
    most: int
    least: int
    of: int
    trainings: int
    of_trainings: int
    without: tuple[str, ...]

    @property
    def note(self) -> str:
        """A footnote about the trainings without a value; '' if all have one."""
        if not self.without or not self.trainings:
            return ""
        return (
            f"Mean over {self.trainings} of {self.of_trainings} trainings: no value in "
            f"{', '.join(self.without)}."
        )


class Absences(NamedTuple):
    """Units in which one mask alone holds a region, summed over trainings.

    Attributes:
      missed, of_missed: the prediction is empty, of the units whose truth holds the region.
      invented, of_invented: the truth is empty and the prediction is not, of the others.
    """

    missed: int
    of_missed: int
    invented: int
    of_invented: int

    @property
    def words(self) -> str:
        """'missed 3 of 20, invented 1 of 5'."""
        return (
            f"missed {self.missed:,} of {self.of_missed:,}, invented {self.invented:,} of "
            f"{self.of_invented:,}"
        )


def average(group: Iterable[Measured], key: Key) -> Average:
    """The mean of a number over the trainings of a group."""
    group = list(group)
    folds = fold_means(group, key)
    found = [one.rows.get(key, (math.nan, 0)) for one in group]
    without = [one for one, (mean, _) in zip(group, found, strict=True) if math.isnan(mean)]
    counts = [count if mean == mean else 0 for mean, count in found]
    return Average(
        mean=float(np.mean(list(folds.values()))) if folds else math.nan,
        most=max(counts, default=0),
        least=min(counts, default=0),
        of=max((units(one, key) for one in group), default=0),
        trainings=len(group) - len(without),
        of_trainings=len(group),
        without=training_names(without, group),
    )


def units(one: Measured, key: Key) -> int:
    """Number of units over which a number is taken, with those that it leaves out."""
    return max((count for other, (_, count) in one.rows.items() if other[:3] == key[:3]), default=0)


def absences(group: Iterable[Measured], key: Key) -> Absences | None:
    """What one mask alone holds, in the units and the region of `key`; None if it is unknown."""
    unit, over, of, *_ = key
    found = [0, 0, 0, 0]
    known = False
    for one in group:
        missed = one.rows.get((unit, over, of, "missed", "truth_present"))
        invented = one.rows.get((unit, over, of, "invented", "truth_empty"))
        if missed is None or invented is None:
            return None
        known = True
        for k, (share, count) in enumerate((missed, invented)):
            found[2 * k] += round(share * count) if count else 0
            found[2 * k + 1] += count
    return Absences(*found) if known else None


def training_names(some: Iterable[Measured], group: Iterable[Measured]) -> tuple[str, ...]:
    """'fold 1', with the seed where the group has several; folds count from 1."""
    seeds = {one.seed for one in group}
    return tuple(
        f"fold {one.fold + 1}{f' seed {one.seed}' if len(seeds) > 1 else ''}" for one in some
    )
