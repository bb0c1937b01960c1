"""Mean, interval and test over patients and trainings."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.numerics.type_one_error import Design, rates
from brats_jax.reporting.training_variance import (
    LEAST_GROUPS,
    as_table,
    crossed_mean,
    independent_groups,
)


def table_of(patients=30, trainings=5, shift=0.02, seed=0):
    rng = np.random.default_rng(seed)
    of_patient = rng.normal(0, 0.04, (patients, 1))
    return of_patient + rng.normal(0, shift, trainings) + rng.normal(0, 0.02, (patients, trainings))


def test_the_variance_is_that_of_the_mean_squares():
    table = table_of()
    p, t = table.shape
    rows, columns, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    of_patients = t * ((rows - mean) ** 2).sum() / (p - 1)
    of_trainings = p * ((columns - mean) ** 2).sum() / (t - 1)
    rest = ((table - rows[:, None] - columns + mean) ** 2).sum() / ((p - 1) * (t - 1))
    variance = (of_patients + of_trainings - rest) / (p * t)
    result = crossed_mean(table, range(t))
    assert result.mean == pytest.approx(mean)
    assert result.standard_error == pytest.approx(math.sqrt(variance))
    assert result.training_sd == pytest.approx(math.sqrt((of_trainings - rest) / p))
    df = result.degrees_of_freedom
    assert 3.75 < df < p - 1
    assert result.p == pytest.approx(2 * stats.t.sf(abs(mean) / math.sqrt(variance), df))
    half = stats.t.ppf(0.975, df) * math.sqrt(variance)
    assert (result.low, result.high) == pytest.approx((mean - half, mean + half))


def test_a_difference_is_found_exactly_where_the_interval_excludes_zero():
    for seed in range(40):
        result = crossed_mean(table_of(seed=seed) + 0.015, range(5))
        assert (result.p <= 0.05) == (result.low > 0 or result.high < 0)


def test_the_seeds_of_a_fold_are_one_group():
    table = np.repeat(table_of(), 3, axis=1)  # three seeds that say the same
    runs = [(fold, seed) for fold in range(5) for seed in range(3)]
    groups, over_folds = independent_groups(runs)
    assert over_folds
    result, once = crossed_mean(table, groups), crossed_mean(table_of(), range(5))
    assert (result.trainings, result.groups) == (15, 5)
    assert result.p == pytest.approx(once.p) and result.low == pytest.approx(once.low)


def test_seeds_of_one_fold_are_groups_unless_they_share_a_pretraining():
    runs = [(2, seed) for seed in range(5)]
    groups, over_folds = independent_groups(runs)
    assert len(set(groups)) == 5 and not over_folds
    shared, _ = independent_groups(runs, {run: "pretraining/seed_0" for run in runs})
    assert len(set(shared)) == 1


@pytest.mark.parametrize(("patients", "trainings"), [(1, 5), (30, LEAST_GROUPS - 1), (0, 0)])
def test_too_few_patients_or_trainings_have_no_test(patients, trainings):
    assert crossed_mean(np.ones((patients, trainings)), range(trainings)) is None


def test_missing_values_are_left_out_without_a_shift_of_their_patients():
    table = table_of(patients=60, shift=0.0)
    table[:30] += 5.0  # easy patients, which one training lacks
    full = crossed_mean(table, range(5))
    table[:30, 0] = math.nan
    result = crossed_mean(table, range(5))
    assert result.mean == pytest.approx(full.mean, abs=0.01)
    assert result.training_sd < 0.05
    assert result.standard_error == pytest.approx(full.standard_error, rel=0.02)


def test_equal_differences_have_no_spread():
    assert crossed_mean(np.full((6, 5), 0.1 + 0.2), range(5)).low == pytest.approx(0.3)
    assert crossed_mean(np.zeros((6, 5)), range(5)).p == 1


def test_a_table_holds_the_defined_values():
    table, runs = as_table({"A": {(0, 0): 0.5, (1, 0): math.nan}, "B": {}, "C": {(2, 0): 0.25}})
    assert runs == [(0, 0), (2, 0)]
    np.testing.assert_array_equal(table, [[0.5, math.nan], [math.nan, 0.25]])
    assert as_table({})[0].shape == (0, 0)


@pytest.mark.parametrize("design", [Design(5, 1), Design(5, 3), Design(5, 3, shared=True)])
def test_shifts_between_trainings_are_not_taken_for_a_difference(design):
    """benchmarks/results has the error rates over 20,000 draws."""
    both, alone = rates(design, 55, "Dice", 0.02, 500, seed=1)
    assert 0.02 < both < 0.085  # 0.05 +- 3 standard errors
    assert alone > 0.12


def test_in_a_cross_validation_the_spread_between_folds_counts():
    """Every patient is in one fold; folds that differ more than their patients decide."""
    table = np.full((20, 5), np.nan)
    shifts = np.array([-0.1, -0.05, 0.0, 0.05, 0.12])
    rng = np.random.default_rng(0)
    for patient in range(20):
        table[patient, patient % 5] = shifts[patient % 5] + rng.normal(0, 0.01)
    means = np.nanmean(table, axis=0)
    result = crossed_mean(table, range(5))
    assert result.standard_error == pytest.approx(math.sqrt(means.var(ddof=1) / 5))
    assert (result.mean, result.degrees_of_freedom) == (pytest.approx(means.mean()), 4)
    assert result.p == pytest.approx(stats.ttest_1samp(means, 0).pvalue)


def test_in_a_cross_validation_without_shifts_patients_decide():
    """Two opposite patients in each fold: all folds have the mean 0.1."""
    table = np.full((10, 5), np.nan)
    for patient in range(10):
        table[patient, patient // 2] = 0.1 + (0.02 if patient % 2 else -0.02)
    result = crossed_mean(table, range(5))
    values = table[~np.isnan(table)]
    assert result.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert result.training_sd == 0
