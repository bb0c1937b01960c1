"""Distances between boundaries by their definition: values by hand."""

import numpy as np
import pytest

from brats_jax.metrics import surface_plain


def test_a_pixel_against_a_square_by_hand():
    """A pixel 3 columns before a square of 2 x 2; its four pixels are all boundary."""
    prediction, target = np.zeros((2, 1, 9, 12), bool)
    prediction[0, 2, 3] = target[0, 2:4, 6:8] = True
    back = [3, 4, np.hypot(1, 3), np.hypot(1, 4)]
    found = surface_plain.statistics(prediction, target, (None,), (1.0, 1.0), tolerance_mm=3.5)
    percentiles = [3, np.percentile(back, 95), np.percentile([3, *back], 95)]
    expected = [3, 1, sum(back), 4, *percentiles, 1, 2]
    assert [float(field[0]) for field in found] == pytest.approx(expected)


def test_regions_are_sets_of_labels_and_vary_fastest():
    labels = np.zeros((2, 5, 5), np.uint8)
    labels[0, 1, 1], labels[1, 2, 2:4] = 1, 3
    found = surface_plain.statistics(labels, labels, ((1,), (1, 3)), (1.0, 1.0), tolerance_mm=1)
    assert found[1].tolist() == found[3].tolist() == [1, 1, 0, 2]
    np.testing.assert_array_equal(found[0], [0, 0, np.nan, 0])


def test_a_distance_that_exceeds_the_tolerance_by_rounding_is_within_it():
    """0.1 + 0.2 is above 0.3 in binary."""
    prediction, target = np.zeros((2, 1, 1, 4), bool)
    prediction[..., 0] = target[..., 3] = True
    *_, within, _ = surface_plain.statistics(
        prediction, target, (None,), (1.0, 0.1), tolerance_mm=0.3
    )
    assert within.tolist() == [1] and 3 * 0.1 > 0.3
