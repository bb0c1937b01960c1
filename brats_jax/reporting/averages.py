"""Means over the trainings of an arm, and the units and trainings that they leave out.

A training that misses a region everywhere has no distance to it, so its fold is not in the mean. If
a table gave the mean alone, the arm that misses more would look better.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from brats_jax.reporting.arms import EvaluatedStage, Key, Repeat

# The metrics that leave out a region that one mask lacks.
DISTANCES = ("asd_mm", "asd_averaged_mm", "asd_pred_to_gt_mm", "asd_gt_to_pred_mm", "hd95_mm")


class Average(NamedTuple):
    """A mean over folds of the mean over seeds.

    Attributes:
      mean: NaN if no training has a value.
      most_units: the largest number of units (slices or patients) averaged in a training.
      least_units: the smallest number; 0 if a training has no value.
      all_units: units of a training, with those left out; 0 if unknown.
      trainings: number of trainings with a value.
      all_trainings: number of trainings.
      without: names of the trainings without a value, such as 'fold 0'.
    """

    mean: float
    most_units: int
    least_units: int
    all_units: int
    trainings: int
    all_trainings: int
    without: tuple[str, ...]

    @property
    def note(self) -> str:
        """A footnote about the trainings without a value; '' if all have one."""
        if not self.without or not self.trainings:
            return ""
        return (
            f"Mean over {self.trainings} of {self.all_trainings} trainings: no value in "
            f"{', '.join(self.without)}."
        )


class Absences(NamedTuple):
    """Numbers of units in which only one mask holds a region, summed over trainings.

    Attributes:
      missed: units whose truth holds the region and whose prediction does not.
      of_missed: units whose truth holds it.
      invented: units whose prediction holds the region and whose truth does not.
      of_invented: units whose truth does not hold it.
    """

    missed: int
    of_missed: int
    invented: int
    of_invented: int

    @property
    def description(self) -> str:
        """'missed 3 of 20, invented 1 of 5'."""
        return (
            f"missed {self.missed:,} of {self.of_missed:,}, invented {self.invented:,} of "
            f"{self.of_invented:,}"
        )


def fold_means(group: Iterable[EvaluatedStage], key: Key) -> dict[int, float]:
    """fold -> mean over its seeds; folds in which the number is undefined are left out."""
    values: dict[int, list[float]] = {}
    for one in group:
        mean = one.rows.get(key, (float("nan"), 0))[0]
        if not np.isnan(mean):
            values.setdefault(one.fold, []).append(mean)
    return {fold: float(np.mean(found)) for fold, found in sorted(values.items())}


def mean_over_folds(group: Iterable[EvaluatedStage], key: Key) -> tuple[float, int]:
    """(mean over folds of the mean over seeds, number of units); (NaN, 0) if undefined.

    Where the folds have the same test set, the number is the largest of a training. In a
    cross-validation the mean is over the units of all folds.
    """
    group = list(group)
    folds = fold_means(group, key)
    counts: dict[int, int] = {}
    for one in group:
        if key in one.rows:
            counts[one.fold] = max(counts.get(one.fold, 0), one.rows[key][1])
    if not folds:
        return float("nan"), max(counts.values(), default=0)
    values = list(folds.values())
    if not any(one.cross_validates for one in group):
        return float(np.mean(values)), max(counts.values())
    weights = [counts[fold] for fold in folds]
    mean = float(np.average(values, weights=weights if any(weights) else None))
    return mean, sum(counts.values())


def patient_values(group: Iterable[EvaluatedStage], key: Key) -> dict[str, dict[Repeat, float]]:
    """patient -> {(fold, seed): value}; several runs of one fold and seed are averaged."""
    found: dict[str, dict[Repeat, list[float]]] = {}
    for one in group:
        for patient, value in one.patient_scores.get(key, {}).items():
            found.setdefault(patient, {}).setdefault((one.fold, one.seed), []).append(value)
    return {
        patient: {run: float(np.mean(values)) for run, values in own.items()}
        for patient, own in found.items()
    }


def average(group: Iterable[EvaluatedStage], key: Key) -> Average:
    """The mean of a number over the trainings of a group."""
    group = list(group)
    folds = fold_means(group, key)
    found = [one.rows.get(key, (math.nan, 0)) for one in group]
    without = [one for one, (mean, _) in zip(group, found, strict=True) if math.isnan(mean)]
    counts = [count if mean == mean else 0 for mean, count in found]
    return Average(
        mean=float(np.mean(list(folds.values()))) if folds else math.nan,
        most_units=max(counts, default=0),
        least_units=min(counts, default=0),
        all_units=max((units(one, key) for one in group), default=0),
        trainings=len(group) - len(without),
        all_trainings=len(group),
        without=training_names(without, group),
    )


def units(one: EvaluatedStage, key: Key) -> int:
    """Number of units of a training for `key`, with those that its mean leaves out."""
    return max((count for other, (_, count) in one.rows.items() if other[:3] == key[:3]), default=0)


def absences(group: Iterable[EvaluatedStage], key: Key) -> Absences | None:
    """How often only one mask holds the region of `key`; None where a training has no count."""
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


def training_names(
    some: Iterable[EvaluatedStage], group: Iterable[EvaluatedStage]
) -> tuple[str, ...]:
    """'fold 0', with the seed where the group has several."""
    seeds = {one.seed for one in group}
    return tuple(f"fold {one.fold}{f' seed {one.seed}' if len(seeds) > 1 else ''}" for one in some)
