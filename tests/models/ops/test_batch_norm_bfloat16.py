"""Batch normalisation of bfloat16 maps: against the plain form, and float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from vjps import normal, value_and_vjp

from brats_jax.models.ops.batch_norm import batch_norm, batch_norm_plain
from brats_jax.models.ops.batch_norm_bfloat16 import column_sums


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_shortcut", [False, True])
@pytest.mark.parametrize("size", [(2, 5, 7, 6), (2, 32, 32, 4), (3, 32, 32, 3), (2, 33, 32, 3)])
def test_bfloat16_is_the_plain_form_but_for_rounding(size, with_shortcut, relu):
    """Sums of 70, 2048, 3072 and 2112 rows: in one piece, in parts, in parts, in one piece."""
    x = jnp.asarray(normal(*size) * 2 + 3, jnp.bfloat16)
    g = jnp.asarray(normal(*size, seed=1), jnp.bfloat16)
    shortcut = jnp.asarray(normal(*size, seed=4), jnp.bfloat16) if with_shortcut else None
    scale, bias = normal(size[-1], seed=2), normal(size[-1], seed=3)
    operands = [jnp.asarray(a) for a in (x, scale, bias)] + [shortcut] * with_shortcut

    def ours(x, scale, bias, shortcut=None):
        return batch_norm(x, scale, bias, shortcut, relu=relu)[0]

    def theirs(x, scale, bias, shortcut=None):
        x, shortcut = (None if a is None else a.astype(jnp.float32) for a in (x, shortcut))
        return batch_norm_plain(x, scale, bias, shortcut, relu=relu)[0]

    y, d_x, *others = value_and_vjp(ours, g, *operands)
    wanted = value_and_vjp(theirs, g.astype(jnp.float32), *operands)
    assert y.dtype == d_x.dtype == jnp.bfloat16 and others[0].dtype == jnp.float32
    # A bfloat16 has eight bits.
    for actual, expected in zip((y, d_x, *others[2:]), (*wanted[:2], *wanted[4:]), strict=True):
        actual, expected = (np.asarray(a, np.float32) for a in (actual, expected))
        np.testing.assert_allclose(actual, expected, rtol=2**-7, atol=2e-3)
    for actual, expected in zip(others[:2], wanted[2:4], strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rows", [7, 1024, 2048, 2112, 3072, 4096, 16384])
def test_columns_add_up_whatever_the_parts(rows):
    whole = np.random.default_rng(0).integers(-9, 9, (rows, 1, 1, 3)).astype(np.float32)
    first, second = column_sums(jnp.asarray(whole), jnp.asarray(2 * whole))
    np.testing.assert_array_equal(first, whole.sum((0, 1, 2)))
    np.testing.assert_array_equal(second, 2 * whole.sum((0, 1, 2)))


@pytest.mark.parametrize("mean", [0.0, 10.0, 50.0])
def test_one_pass_loses_no_variance_that_rounding_to_bfloat16_has_left(mean):
    x = jnp.asarray(normal(8, 32, 32, 2) + mean, jnp.bfloat16)
    _, found, var = batch_norm(x, jnp.ones(2), jnp.zeros(2))
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(found, exact.mean((0, 1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var, exact.var((0, 1, 2)), rtol=2e-3)


def test_constant_bfloat16_channels_stay_finite():
    x = jnp.full((2, 3, 3, 1), 7.0, jnp.bfloat16)
    y, d_x, *_ = value_and_vjp(
        lambda *a: batch_norm(*a, relu=True)[0],
        jnp.ones(x.shape, jnp.bfloat16),
        x,
        jnp.ones(1),
        jnp.full(1, 0.5),
    )
    np.testing.assert_allclose(np.asarray(y, np.float32), 0.5)
    np.testing.assert_allclose(np.asarray(d_x, np.float32), 0, atol=1e-3)
