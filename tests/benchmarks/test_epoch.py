"""Projection of the paper's trainings from the times of an epoch."""

import pytest

from benchmarks import epoch


def test_hours_are_the_sum_of_starts_epochs_and_evaluations():
    # 24,422 slices: 16,606 in training, 1,037 steps of 16; 4,151.74 to validate on.
    hours = epoch.projected_hours(0.01, 0.001, 2.0, 16, 20.0, 0.002)
    # 3,663.3 slices are evaluated.
    assert hours == pytest.approx((20 + 30 * (10.37 + 4.15174 + 2) + 7.3266) / 3600)
