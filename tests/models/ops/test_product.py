"""The product over the channels and its written gradient."""

import jax.numpy as jnp
import numpy as np
import pytest
from vjps import assert_close, normal, value_and_vjp

from brats_jax.models.ops.product import product, product_plain


def test_product_by_hand():
    x = jnp.array([[[[1.0, 2.0]]]])
    np.testing.assert_array_equal(product(x, jnp.array([[1.0, 0.0], [10.0, 3.0]])), [[[[21, 6]]]])


@pytest.mark.parametrize("size", [(2, 7, 6, 3), (1, 1, 1, 5)])
def test_the_written_gradient_is_the_derived_one(size):
    x, kernel, g = normal(*size), normal(size[-1], 4, seed=1), normal(*size[:3], 4, seed=2)
    plain = value_and_vjp(product_plain, g, x, kernel)
    assert_close(value_and_vjp(product, g, x, kernel), plain, atol=1e-5)


def test_bfloat16_products_can_be_summed_and_returned_in_float32():
    x, kernel = (jnp.asarray(normal(*s), jnp.bfloat16) for s in ((1, 2, 2, 64), (64, 4)))
    exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    y = product(x, kernel, jnp.float32)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, exact, atol=1e-5)
    d_x, d_kernel = value_and_vjp(lambda *a: product(*a, jnp.float32), y, x, kernel)[1:]
    assert d_x.dtype == d_kernel.dtype == jnp.bfloat16
