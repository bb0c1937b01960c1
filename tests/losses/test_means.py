"""Means over the values that count, by hand."""

import jax.numpy as jnp
import pytest

from brats_jax.losses.means import at_least_float32, weighted_mean


@pytest.mark.parametrize(
    "weight, mean", [(None, 3.0), ((1.0, 1.0, 0.0), 1.5), ((0.0, 0.0, 1.0), 6.0), ((0.0,), 0.0)]
)
def test_values_of_weight_0_do_not_count(weight, mean):
    values = jnp.array([1.0, 2.0, 6.0])
    found = weighted_mean(values, None if weight is None else jnp.array(weight))
    assert found == mean


def test_narrow_types_are_widened_to_float32():
    assert at_least_float32(jnp.zeros(1, jnp.bfloat16)).dtype == jnp.float32
    assert at_least_float32(jnp.zeros(1, jnp.float32)).dtype == jnp.float32
