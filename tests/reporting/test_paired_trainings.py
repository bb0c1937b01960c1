"""Models that were trained several times are compared over patients and trainings."""

import math

import numpy as np
import pytest

from brats_jax.reporting.paired_trainings import (
    compare_trainings,
    interval_over_trainings,
    paired_by_patient,
)


def test_a_patient_is_the_mean_over_its_folds_and_seeds():
    paired = paired_by_patient(
        {"p1": {(0, 0): 0.2, (1, 0): 0.4, (2, 0): 0.6}, "p2": {(0, 0): 0.5}},
        {"p2": {(0, 0): 0.1}, "p1": {(0, 0): 1.0, (1, 0): 1.0, (2, 0): 1.0}},
    )
    assert paired.patients == ("p1", "p2") and paired.left_out == ()
    np.testing.assert_allclose(paired.a, [0.4, 0.5])
    np.testing.assert_allclose(paired.b, [1.0, 0.1])


def test_a_run_that_is_undefined_or_missing_under_one_model_is_left_out_of_both():
    nan = math.nan
    paired = paired_by_patient(
        {"p": {0: 0.2, 1: nan, 2: 0.6, 3: 0.9}}, {"p": {0: 0.1, 1: 0.9, 2: nan, 4: 0.8}}
    )
    np.testing.assert_allclose([paired.a, paired.b], [[0.2], [0.1]])
    assert paired.runs_left_out == {1: 1, 2: 1, 3: 1, 4: 1}


def test_patients_without_a_common_run_are_named():
    paired = paired_by_patient(
        {"both": {0: 1.0}, "only a": {0: 1.0}, "undefined": {0: math.nan}},
        {"undefined": {0: 2.0}, "both": {0: 3.0}, "only b": {0: 1.0}},
    )
    assert paired.patients == ("both",)
    assert paired.left_out == ("only a", "undefined", "only b")
    assert paired_by_patient({}, {}).patients == ()


def trained(folds, patients=20, shift=0.0, gain=0.0, seed=0):
    """(a, b, runs): two models that differ by `gain` and by N(0, shift) for each fold."""
    rng = np.random.default_rng(seed)
    runs = [(fold, 0) for fold in range(folds)]
    shifts = rng.normal(0, shift, folds)
    b = {f"P{p}": {run: float(rng.normal(0.7, 0.02)) for run in runs} for p in range(patients)}
    a = {
        p: {run: own[run] + gain + shifts[run[0]] + float(rng.normal(0, 0.02)) for run in runs}
        for p, own in b.items()
    }
    return a, b, runs


def test_five_folds_are_tested_over_patients_and_trainings():
    result = compare_trainings(*trained(5, shift=0.05, seed=1))
    assert (result.method, result.trainings, result.groups) == ("crossed", 5, 5)
    # Over these patients alone the shifts of five trainings look like a difference.
    assert result.p_permutation < 0.01 and result.p == result.p_crossed > 0.2
    assert not result.only_these_trainings and result.degrees_of_freedom < 10
    assert (result.p <= 0.05) == (result.low > 0 or result.high < 0)
    found = compare_trainings(*trained(5, gain=0.05))
    assert found.p < 0.001 and found.low > 0


@pytest.mark.parametrize("folds", [1, 2, 4])
def test_fewer_folds_are_compared_for_these_trainings_only(folds):
    a, b, runs = trained(folds, gain=0.05)
    result = compare_trainings(a, b, runs)
    assert result.only_these_trainings and result.trainings == folds
    assert result.p == result.p_permutation and result.method == "BCa"


def test_trainings_without_a_value_are_counted_by_run():
    a, b, runs = trained(3, patients=4)
    for patient in a:
        del a[patient][2, 0]  # the third training misses the region everywhere
    a["P0"][1, 0] = math.nan
    result = compare_trainings(a, b, runs)
    assert (result.trainings, result.of_trainings) == (2, 3)
    assert result.runs_left_out == (((1, 0), 1), ((2, 0), 4))


def test_the_interval_of_one_model_is_over_the_same_patients_and_trainings():
    a, _, _ = trained(5, shift=0.05)
    assert interval_over_trainings(a).method == "crossed"
    few = {p: {run: x for run, x in own.items() if run[0] < 2} for p, own in a.items()}
    alone = interval_over_trainings({**few, "empty": {}})
    assert (alone.method, alone.n, alone.left_out) == ("BCa", 20, 1)
    assert interval_over_trainings({}).method == "none"
