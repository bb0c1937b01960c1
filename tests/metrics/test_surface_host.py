"""Distances between boundaries on the host: by hand, and by two algorithms."""

import numpy as np
import pytest

from brats_jax.metrics import surface_host


def masks(seed, shape=(21, 26)):
    """bool[2, H, W]: pixels at random."""
    return np.random.default_rng(seed).random((2, *shape)) < 0.2


def test_distances_by_hand():
    at, to = np.zeros((2, 6, 6), bool)
    at[0, 0] = at[3, 4] = to[3, 4] = True
    assert surface_host.distances(at, to, (1.0, 1.0)).tolist() == [5.0, 0.0]
    assert surface_host.distances(at, to, (2.0, 2.0)).tolist() == [10.0, 0.0]
    assert surface_host.distances(to, at, (1.0, 1.0)).tolist() == [0.0]


def test_the_search_tree_and_the_transform_agree():
    for seed in range(4):
        a, b = masks(seed)
        for spacing in ((1.0, 1.0), (2.0, 0.7)):
            tree, transform = (
                f(a, b, spacing)
                for f in (surface_host.distances_by_tree, surface_host.distances_by_transform)
            )
            np.testing.assert_allclose(tree, transform, rtol=1e-12)


def test_the_bounding_box_is_the_smallest():
    mask = np.zeros((6, 7), bool)
    mask[2, 3] = mask[4, 1] = True
    assert surface_host.bounding_box(mask) == (slice(2, 5), slice(1, 4))
    assert not mask[surface_host.bounding_box(np.zeros_like(mask))].size


def test_the_95th_percentile_is_numpys():
    """A pixel against a row of them: the distances back are 0, 1, ..., 24."""
    point, row = np.zeros((2, 1, 1, 25), bool)
    point[..., 0] = row[...] = True
    found = surface_host.statistics(point, row, (None,), (1.0, 1.0), tolerance_mm=3.0)
    back = range(25)
    expected = [0, 1, 300, 25, 0, np.percentile(back, 95), np.percentile([0, *back], 95), 1, 4]
    assert [float(field[0]) for field in found] == pytest.approx(expected, rel=1e-14)
