"""Distances between boundaries on an accelerator: by hand, over several passes, in memory."""

import jax
import numpy as np
import pytest

from brats_jax.metrics import surface, surface_device


def square(top, left, size=3, shape=(21, 26)):
    mask = np.zeros(shape, bool)
    mask[top : top + size, left : left + size] = True
    return mask


def test_the_statistics_of_two_pixels_by_hand():
    """One pixel, and another 3 rows of 2 mm and 4 columns of 2 mm away: 10 mm."""
    p, g = square(2, 3, 1)[None], square(5, 7, 1)[None]
    found = surface_device.statistics(p, g, np.float32([2, 2]), 10.0)
    assert [float(field[0]) for field in found] == [10, 1, 10, 1, 10, 10, 10, 1, 1]
    found = surface_device.statistics(p, g, np.float32([2, 2]), 9.9)
    assert [int(field[0]) for field in found[7:]] == [0, 0]


def test_a_boundary_is_the_mask_without_its_interior():
    expected = square(4, 5, 5) & ~square(5, 6, 3)
    np.testing.assert_array_equal(surface_device.boundary(square(4, 5, 5), 2), expected)


def test_more_pairs_than_one_pass_holds():
    n = surface_device.PAIRS + 3
    prediction = np.stack([square(i % 10, 0) for i in range(n)])
    target = np.broadcast_to(square(0, 0), prediction.shape)
    got = surface.average_surface_distance(prediction, target, backend="device")
    for i in (0, 1, n - 1):
        one = (x[i : i + 1] for x in (prediction, target))
        expected = surface.average_surface_distance(*one, backend="host")
        assert got[i] == pytest.approx(float(expected[0]), abs=1e-5)


@pytest.mark.parametrize("shape", [(1000, 240, 240), (16, 240, 240, 155)])
def test_device_memory_is_bounded(shape):
    masks, spacing_mm = jax.ShapeDtypeStruct(shape, bool), np.ones(len(shape) - 1, np.float32)
    compiled = surface_device.statistics.lower(masks, masks, spacing_mm, 1.0).compile()
    # The masks themselves are 2 x 58 MB, and 2 x 143 MB for the volumes; distances for each
    # would be 460 MB and 1.1 GB. A single volume's take 71 MB, and its other half's as much.
    assert compiled.memory_analysis().temp_size_in_bytes < (450e6, 900e6)[len(shape) - 3]
