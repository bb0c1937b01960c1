"""One formula for NumPy and JAX arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brats_jax.metrics.array_namespace import array_namespace


@pytest.mark.parametrize("arrays", [(np.zeros(2),), (np.zeros(2), np.float32(1))])
def test_numpy_arrays_and_scalars_are_left_to_numpy(arrays):
    assert array_namespace(*arrays) is np


@pytest.mark.parametrize("arrays", [(jnp.zeros(2),), (np.zeros(2), jnp.zeros(2)), ([1.0],)])
def test_one_array_that_is_not_numpys_makes_it_jax(arrays):
    assert array_namespace(*arrays) is jnp


def test_a_traced_array_is_left_to_jax():
    doubled = jax.jit(lambda x: array_namespace(x).multiply(x, 2))(np.ones(3))
    assert doubled.tolist() == [2, 2, 2]
