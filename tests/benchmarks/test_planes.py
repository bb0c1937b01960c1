"""The table of runs of several planes: means over patients, and paired gains of their average."""

import numpy as np

from benchmarks import planes


def values(shift):
    """Dice 0.5, 0.6, 0.7 plus a shift, and HD95 10 mm, of each region in three patients."""
    dice = np.array([0.5, 0.6, 0.7]) + shift
    return {
        (metric, region): dice if metric == "dice" else np.full(3, 10.0)
        for metric, _ in planes.METRICS
        for region in planes.REGIONS
    }


def test_the_table_has_means_over_patients_and_the_gains_are_paired():
    found = {"a": values(0.0), "b": values(np.array([0.1, 0.0, 0.05])), "mean": values(0.1)}
    lines = planes.table(found, ["axial", "coronal"]).splitlines()
    assert lines[2] == "| a | axial | 0.600 | 0.600 | 0.600 | 10.0 | 10.0 | 10.0 |"
    assert lines[4].startswith("| mean | all | 0.700 |")
    gains = planes.gains(found).splitlines()
    assert gains[2] == "| a | " + " | ".join(["+0.100 (+0.100 to +0.100)"] * 4) + " |"
    assert gains[3].startswith("| b | +0.050 (")
