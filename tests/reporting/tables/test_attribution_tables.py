"""The attribution table on made gains."""

import numpy as np
import pytest

from brats_jax.reporting.arms import Arm
from brats_jax.reporting.attribution import Gain
from brats_jax.reporting.paired_trainings import compare_trainings
from brats_jax.reporting.tables.attribution_tables import attribution_table

SSL, BASE = Arm("focal", 0.1, "", "", True, 3), Arm("focal", 0.1, "", "", False, 3)


def gain_of(difference, adjusted, folds=2):
    rng = np.random.default_rng(0)
    runs = [(fold, 0) for fold in range(folds)]
    base = {f"P{p}": {run: float(rng.uniform(0.4, 0.6)) for run in runs} for p in range(8)}
    more = {p: {run: x + difference for run, x in own.items()} for p, own in base.items()}
    result = compare_trainings(more, base, runs)
    return Gain(SSL, BASE, "SSL masked", "shuffled", result, None, adjusted, 3)


@pytest.mark.parametrize(
    ("difference", "adjusted", "verdict"),
    [
        (0.05, 0.01, "better, for these 2 trainings only"),
        (-0.05, 0.01, "worse, for these 2 trainings only"),
        (0.05, 0.2, "no difference found, for these 2 trainings only"),
        (0.05, float("nan"), "not tested"),
    ],
)
def test_a_row_has_pretext_control_gain_and_verdict(difference, adjusted, verdict):
    table = attribution_table([gain_of(difference, adjusted)], "Mean 3D Dice")
    ((loss, labels, pretext, control, patients, trainings, *_, found),) = [
        [cell.text for cell in row] for row in table.rows
    ]
    assert (loss, labels, pretext, control) == (
        "Focal only", "3 patients", "SSL masked", "shuffled",
    )  # fmt: skip
    assert (patients, trainings, found) == ("8", "2", verdict)


def test_without_gains_there_is_no_table():
    assert attribution_table([], "Mean 3D Dice") is None
