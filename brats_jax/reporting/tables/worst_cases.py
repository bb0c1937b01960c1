"""The worst cases, and what went wrong in them: missed, invented, too much, too little."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from brats_jax.reporting import captions
from brats_jax.reporting.arms import Measured, Results
from brats_jax.reporting.tables.table import Column, Table, make_table, number, text

REGIONS = ("WT", "TC", "ET")
LOW = 0.5  # less than this share found, or right, is worth a word


@dataclass(frozen=True)
class Case:
    """A patient and how all models of some arms did on it.

    Attributes:
      dice: mean Dice by (region, ssl), over the models; pooled over the evaluated slices.
      overall: their mean, by which cases are ranked.
      words: what went wrong, the most frequent first.
    """

    patient: str
    dice: dict[tuple[str, bool], float]
    overall: float
    words: str


def worst(results: Results, count: int) -> list[Case]:
    """The patients with the lowest Dice, over every model at the largest share of labels."""
    arms = [results.main(loss, ssl) for loss in results.losses for ssl in (False, True)]
    measured = [(a.ssl, one) for a in arms if a is not None for one in results.arms[a]]
    patients = {patient for _, one in measured for patient, _ in one.voxels}
    cases = [_case(patient, measured) for patient in sorted(patients)]
    return sorted(cases, key=lambda case: case.overall)[:count]


def worst_table(results: Results, count: int = 10) -> Table | None:
    """Those cases with a line each."""
    cases = worst(results, count)
    sides = [
        ssl for ssl in (False, True) if any((of, ssl) in c.dice for c in cases for of in REGIONS)
    ]
    columns = [Column("Patient", words=True)]
    columns += [Column("SSL" if ssl else "baseline", of) for of in REGIONS for ssl in sides]
    columns.append(Column("What went wrong, in how many of the models", words=True))
    rows = []
    for case in cases:
        cells = [number(case.dice.get((of, ssl)), 3) for of in REGIONS for ssl in sides]
        rows.append([text(case.patient), *cells, text(case.words)])
    whole = all(one.evaluation["slices"] == "all" for one in results.measured())
    over = "over the patient's volume" if whole else "over the patient's evaluated slices together"
    return make_table(
        "worst_cases",
        "",
        "The patients with the lowest Dice",
        f"Dice of each region {over}, 1 where it is in neither mask, mean over the models. Missed: "
        "nothing of what is there was found; invented: something was found where nothing is. "
        + captions.over(results.measured()),
        columns,
        rows,
    )


def _case(patient: str, measured: Sequence[tuple[bool, Measured]]) -> Case:
    values: dict[tuple[str, bool], list[float]] = {}
    wrong: Counter[str] = Counter()
    models = 0
    for ssl, one in measured:
        models += any((patient, of) in one.voxels for of in REGIONS)
        for of in REGIONS:
            if (patient, of) in one.voxels:
                tp, fp, fn = one.voxels[patient, of]
                values.setdefault((of, ssl), []).append(dice(tp, fp, fn))
                wrong.update(_faults(of, tp, fp, fn))
    means = {key: float(np.mean(found)) for key, found in values.items()}
    words = "; ".join(f"{fault} ({n} of {models})" for fault, n in wrong.most_common(3))
    return Case(patient, means, float(np.mean(list(means.values()))), words or "nothing much")


def dice(tp: int, fp: int, fn: int) -> float:
    """2 TP / (2 TP + FP + FN), 1 where there is nothing to find and nothing was found."""
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0


def _faults(of: str, tp: int, fp: int, fn: int) -> Iterator[str]:
    if tp + fn and not tp + fp:
        yield f"{of} missed"
    elif tp + fp and not tp + fn:
        yield f"{of} invented"
    elif tp + fn:
        if tp < LOW * (tp + fn):
            yield f"{of}: less than half found"
        if tp < LOW * (tp + fp):
            yield f"{of}: more than half of it wrong"
