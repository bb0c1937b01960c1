"""Means over trainings, and what they leave out."""

import math

import pytest

from brats_jax.reporting.averages import (
    absences,
    average,
    fold_means,
    mean_over_folds,
    training_names,
)

KEY = ("patient", "volumes", "ET", "asd_mm", "both_present")
DICE = ("patient", "volumes", "ET", "dice", "brats2020")
MISSED = ("patient", "volumes", "ET", "missed", "truth_present")
INVENTED = ("patient", "volumes", "ET", "invented", "truth_empty")
SLICE_DICE = ("slice", "all slices", "ED", "dice", "paper")


class Evaluated:
    """An evaluation of eight patients, four of whom have ET."""

    def __init__(self, fold, asd, count, seed=0, missed=0.0, invented=0.0):
        self.fold, self.seed = fold, seed
        self.rows = {
            DICE: (0.5, 8), KEY: (asd, count), MISSED: (missed, 4), INVENTED: (invented, 4)
        }  # fmt: skip


def test_a_fold_that_misses_a_region_everywhere_is_named():
    group = [Evaluated(0, math.nan, 0, missed=1.0), Evaluated(1, 45.3, 4)]
    mean = average(group, KEY)
    assert mean.mean == 45.3
    assert (mean.least_units, mean.most_units, mean.all_units) == (0, 4, 8)
    assert mean.note == "Mean over 1 of 2 trainings: no value in fold 0."


def test_a_mean_over_all_trainings_has_no_note():
    mean = average([Evaluated(0, 2.0, 4), Evaluated(1, 4.0, 3)], KEY)
    assert (mean.mean, mean.least_units, mean.most_units, mean.note) == (3.0, 3, 4, "")
    assert average([], KEY).trainings == 0 and average([], KEY).note == ""


def test_misses_and_inventions_are_summed_over_the_trainings():
    found = absences([Evaluated(0, 1.0, 3, missed=0.25), Evaluated(1, 1.0, 4, invented=0.5)], KEY)
    assert tuple(found) == (1, 8, 2, 8)
    assert found.description == "missed 1 of 8, invented 2 of 8"
    old = Evaluated(0, 1.0, 3)
    del old.rows[MISSED]
    assert absences([old], KEY) is None and absences([], KEY) is None


@pytest.mark.parametrize(
    ("runs", "names"), [([(0, 0), (1, 0)], ("fold 0",)), ([(0, 0), (0, 1)], ("fold 0 seed 0",))]
)
def test_seeds_are_named_where_there_are_several(runs, names):
    group = [Evaluated(fold, 1.0, 4, seed) for fold, seed in runs]
    assert training_names(group[:1], group) == names


class DiceOfSlices:
    """An evaluation with one number."""

    cross_validates = False

    def __init__(self, fold, seed, value, count=24):
        self.fold, self.seed, self.rows = fold, seed, {SLICE_DICE: (value, count)}


def test_seeds_are_averaged_within_a_fold_and_then_the_folds():
    group = [DiceOfSlices(0, 0, 0.2), DiceOfSlices(0, 1, 0.4), DiceOfSlices(1, 0, 0.9, count=30)]
    assert fold_means(group, SLICE_DICE) == pytest.approx({0: 0.3, 1: 0.9})
    assert mean_over_folds(group, SLICE_DICE) == (pytest.approx(0.6), 30)


def test_folds_without_a_value_are_left_out():
    group = [DiceOfSlices(0, 0, math.nan), DiceOfSlices(1, 0, 0.9)]
    assert fold_means(group, SLICE_DICE) == {1: 0.9}
    mean, count = mean_over_folds([], SLICE_DICE)
    assert math.isnan(mean) and count == 0
