"""The patients with the lowest Dice, and the most frequent errors in each."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from brats_jax.data.modalities import REGIONS
from brats_jax.reporting import captions
from brats_jax.reporting.arms import EvaluatedStage, Results
from brats_jax.reporting.tables.table import Column, Table, make_table, number, text

LOW = 0.5  # a smaller sensitivity or precision is listed as an error


@dataclass(frozen=True)
class WorstCase:
    """The results of all models of some arms in one patient.

    Attributes:
      dice: (region, ssl) -> mean Dice over the models; each Dice is pooled over the patient's
        evaluated slices.
      overall: mean of `dice`, by which patients are ranked.
      errors: the most frequent errors in words, the most frequent first.
    """

    patient: str
    dice: dict[tuple[str, bool], float]
    overall: float
    errors: str


def worst_cases(results: Results, count: int) -> list[WorstCase]:
    """The patients with the lowest Dice over every model with the largest share of labels."""
    arms = [results.main_arm(loss, ssl) for loss in results.losses for ssl in (False, True)]
    measured = [(a.ssl, one) for a in arms if a is not None for one in results.arms[a]]
    patients = {patient for _, one in measured for patient, _ in one.voxel_counts}
    cases = [_case(patient, measured) for patient in sorted(patients)]
    return sorted(cases, key=lambda case: case.overall)[:count]


def worst_case_table(results: Results, count: int = 10) -> Table | None:
    """A row for each of these patients."""
    cases = worst_cases(results, count)
    sides = [
        ssl for ssl in (False, True) if any((of, ssl) in c.dice for c in cases for of in REGIONS)
    ]
    columns = [Column("Patient", words=True)]
    columns += [Column("SSL" if ssl else "baseline", of) for of in REGIONS for ssl in sides]
    columns.append(Column("What went wrong, in how many of the models", words=True))
    rows = []
    for case in cases:
        cells = [number(case.dice.get((of, ssl)), 3) for of in REGIONS for ssl in sides]
        rows.append([text(case.patient), *cells, text(case.errors)])
    whole = all(one.evaluation.slices == "all" for one in results.evaluated())
    over = "over the patient's volume" if whole else "pooled over the patient's evaluated slices"
    return make_table(
        "worst_cases",
        "",
        "The patients with the lowest Dice",
        f"Dice of each region {over}, 1 for a region in neither mask; mean over the models. "
        "Missed: the truth holds the region, the prediction does not. Invented: the prediction "
        "holds it, the truth does not. " + captions.over(results.evaluated()),
        columns,
        rows,
    )


def _case(patient: str, measured: Sequence[tuple[bool, EvaluatedStage]]) -> WorstCase:
    values: dict[tuple[str, bool], list[float]] = {}
    wrong: Counter[str] = Counter()
    models = 0
    for ssl, one in measured:
        models += any((patient, of) in one.voxel_counts for of in REGIONS)
        for of in REGIONS:
            if (patient, of) in one.voxel_counts:
                tp, fp, fn = one.voxel_counts[patient, of]
                values.setdefault((of, ssl), []).append(dice(tp, fp, fn))
                wrong.update(_errors(of, tp, fp, fn))
    means = {key: float(np.mean(found)) for key, found in values.items()}
    errors = "; ".join(f"{error} ({n} of {models})" for error, n in wrong.most_common(3))
    return WorstCase(
        patient, means, float(np.mean(list(means.values()))), errors or "no large error"
    )


def dice(tp: int, fp: int, fn: int) -> float:
    """2 TP / (2 TP + FP + FN), 1 if the region is in neither mask."""
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0


def _errors(of: str, tp: int, fp: int, fn: int) -> Iterator[str]:
    if tp + fn and not tp + fp:
        yield f"{of} missed"
    elif tp + fp and not tp + fn:
        yield f"{of} invented"
    elif tp + fn:
        if tp < LOW * (tp + fn):
            yield f"{of}: less than half found"
        if tp < LOW * (tp + fp):
            yield f"{of}: more than half of it wrong"
