"""Maps moved by pixels."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from brats_jax.models.ops.shift import shift


def test_zeros_come_in_and_pixels_past_the_edge_are_lost():
    x = jnp.array([[1, 2, 3], [4, 5, 6]])
    assert shift(x, 1, 1).tolist() == [[0, 1, 2], [0, 4, 5]]
    assert shift(x, -1, 1).tolist() == [[2, 3, 0], [5, 6, 0]]
    assert shift(x, 1, 0).tolist() == [[0, 0, 0], [1, 2, 3]]
    assert shift(x, 0, 0).tolist() == x.tolist()


@pytest.mark.parametrize("by", [-3, -1, 0, 2, 4])
@pytest.mark.parametrize("axis", [1, 2])
def test_maps_are_moved_as_scipy_does(by, axis):
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype(np.float32)
    move = [by if k == axis else 0 for k in range(4)]
    np.testing.assert_array_equal(shift(jnp.asarray(x), by, axis), ndimage.shift(x, move, order=0))


def test_the_type_of_a_map_is_kept():
    assert shift(jnp.ones((2, 2), jnp.bfloat16), 1, 0).dtype == jnp.bfloat16
