"""Compares two models that were trained several times and scored on the same patients.

The unit is the patient. Folds and seeds are repeated measurements of a patient: they are
averaged within the patient and never counted as n. Where there are enough of them, the interval
and the test include the variance between trainings (`training_variance`); otherwise they hold
for the trained networks only.
"""

import math
from collections.abc import Collection, Hashable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from brats_jax.reporting.statistics import (
    Interval,
    PairedDifference,
    Repeat,
    bootstrap_interval,
    paired_difference,
)
from brats_jax.reporting.training_variance import as_table, crossed_mean, independent_groups

Run = TypeVar("Run", bound=Hashable)  # identifies a repeat, such as (fold, seed)


class Paired(NamedTuple):
    """One value of each of two models, for every patient that has both.

    Attributes:
      patients: names, in order of first appearance.
      a, b: float64[N], means over the runs of a patient.
      left_out: patients without a run that is defined under both models.
      runs_left_out: run -> number of these patients in which it is not defined under both.
    """

    patients: tuple[str, ...]
    a: Float[np.ndarray, " n"]
    b: Float[np.ndarray, " n"]
    left_out: tuple[str, ...]
    runs_left_out: dict[Any, int]


def compare_trainings(
    a: Mapping[str, Mapping[Repeat, float]],
    b: Mapping[str, Mapping[Repeat, float]],
    runs: Collection[Repeat],
    shared: Mapping[Repeat, Hashable] | None = None,
) -> PairedDifference:
    """Compares two models that were trained several times and scored on the same patients.

    Interval and test are over patients and trainings (`crossed_mean`) where there are enough
    trainings, otherwise over patients alone (`paired_difference`).

    Args:
      a, b: patient -> (fold, seed) -> value.
      runs: the trainings of both models.
      shared: what several seeds of one fold have in common, see `independent_groups`.
    """
    paired = paired_by_patient(a, b, runs)
    result = paired_difference(paired.a, paired.b)
    each = {
        patient: {
            run: round(a[patient][run] - b[patient][run], 12)  # 0.3 - 0.2 ties with 0.2 - 0.1
            for run in a[patient]
            if run in b[patient]
        }
        for patient in paired.patients
    }
    table, defined = as_table(each)
    groups, over_folds = independent_groups(defined, shared)
    result = result._replace(
        trainings=len(defined),
        of_trainings=len(set(runs)),
        groups=len(set(groups)),
        over_folds=over_folds,
        runs_left_out=tuple(sorted(paired.runs_left_out.items())),
    )
    crossed = crossed_mean(table, groups, confidence=result.confidence)
    if crossed is None:
        return result
    if crossed.standard_error == 0:  # the same difference everywhere
        return result._replace(p_crossed=result.p_permutation)
    return result._replace(
        low=crossed.low,
        high=crossed.high,
        method="crossed",
        smallest_p=0.0,
        p_crossed=crossed.p,
        degrees_of_freedom=crossed.degrees_of_freedom,
        training_sd=crossed.training_sd,
    )


def interval_over_trainings(
    values: Mapping[str, Mapping[Repeat, float]], shared: Mapping[Repeat, Hashable] | None = None
) -> Interval:
    """Mean over patients of one model, with the interval of `compare_trainings`.

    Args:
      values: patient -> (fold, seed) -> value.
    """
    table, runs = as_table(values)
    crossed = crossed_mean(table, independent_groups(runs, shared)[0])
    if crossed is not None:
        left_out = len(values) - crossed.patients
        ends = (crossed.mean, crossed.low, crossed.high)
        return Interval(crossed.patients, left_out, *ends, 0.95, "crossed")
    means = [np.nanmean(row) for row in table]
    found = bootstrap_interval(means)
    return found._replace(left_out=found.left_out + len(values) - len(means))


def paired_by_patient(
    a: Mapping[str, Mapping[Run, float]],
    b: Mapping[str, Mapping[Run, float]],
    runs: Collection[Run] | None = None,
) -> Paired:
    """Pairs two models by patient; the value of a patient is its mean over folds and seeds.

    A run that is missing or NaN under one model is left out of both, because a patient's two
    means must be over the same runs. `runs_left_out` counts these.

    Args:
      a, b: patient -> run -> value, e.g. {'P1': {(fold, seed): 0.8}}.
      runs: of both models; default: every run in `a` or `b`.
    """
    if runs is None:
        runs = list(dict.fromkeys(r for side in (a, b) for own in side.values() for r in own))
    kept, mean_a, mean_b, left_out = [], [], [], []
    without: dict[Any, int] = {}
    for patient in dict.fromkeys([*a, *b]):
        runs_a, runs_b = a.get(patient, {}), b.get(patient, {})
        both = [r for r in runs_a if r in runs_b and not math.isnan(runs_a[r] + runs_b[r])]
        if not both:
            left_out.append(patient)
            continue
        kept.append(patient)
        mean_a.append(math.fsum(runs_a[r] for r in both) / len(both))
        mean_b.append(math.fsum(runs_b[r] for r in both) / len(both))
        for run in runs:
            if run not in both:
                without[run] = without.get(run, 0) + 1
    return Paired(tuple(kept), np.array(mean_a), np.array(mean_b), tuple(left_out), without)
