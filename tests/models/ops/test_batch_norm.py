"""Batch normalisation in every form: against its formula, float64, and over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from vjps import assert_close, normal, value_and_vjp

from brats_jax.models.ops.batch_norm import batch_norm, batch_norm_plain
from brats_jax.runtime import forms


def formula(x, scale, bias):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias


@pytest.mark.parametrize("form", [batch_norm, batch_norm_plain])
def test_normalisation_and_its_gradient_are_the_formula(form):
    x, g = normal(3, 4, 5, 6) * 2 + 1, normal(3, 4, 5, 6, seed=1)
    scale, bias = normal(6, seed=2), normal(6, seed=3)
    actual = value_and_vjp(lambda *a: form(*a)[0], g, x, scale, bias)
    assert_close(actual, value_and_vjp(formula, g, x, scale, bias), atol=2e-5)
    _, mean, var = form(jnp.asarray(x), scale, bias)
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(var, x.var((0, 1, 2)), rtol=1e-5)


def test_variance_far_from_zero_is_not_lost():
    x = normal(4, 8, 8, 1) * 0.01 + 100  # E[x^2] - E[x]^2 in float32 is off by 100 % here
    _, _, var = batch_norm(jnp.asarray(x), jnp.ones(1), jnp.zeros(1))
    np.testing.assert_allclose(var, x.astype(np.float64).var(), rtol=1e-3)


def test_bfloat16_is_normalised_in_float32():
    x = jnp.asarray(normal(4, 8, 8, 2) + 3, jnp.bfloat16)
    y, mean, var = batch_norm(x, jnp.ones(2), jnp.zeros(2))
    exact = np.asarray(x, np.float64)
    assert (y.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-5)
    expected = (exact - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.02)


def test_constant_channels_and_single_pixels_stay_finite():
    for x in (jnp.full((2, 3, 3, 1), 7.0), jnp.full((1, 1, 1, 1), 7.0)):
        y, dx, *_ = value_and_vjp(
            lambda *a: batch_norm(*a)[0],
            jnp.ones(x.shape),
            x,
            jnp.ones(1),
            jnp.full(1, 0.5),
        )
        np.testing.assert_allclose(y, 0.5)
        np.testing.assert_allclose(dx, 0, atol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_statistics_are_those_of_the_batch_over_all_devices(dtype):
    if jax.device_count() < 2:
        pytest.skip("needs two devices")
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])
    side = 5 if dtype == jnp.float32 else 32  # 4096 rows: added up in parts
    x = normal(4, side, side, 3) + np.arange(4)[:, None, None, None]
    x, g = jnp.asarray(x, dtype), jnp.asarray(normal(4, side, side, 3, seed=1), dtype)
    scale, bias = normal(3, seed=2), normal(3, seed=3)

    @jax.jit
    def run(x, g):
        (y, mean, var), vjp = jax.vjp(batch_norm, x, scale, bias)
        return y, mean, var, *vjp((g, jnp.zeros(3), jnp.zeros(3)))

    sharding = NamedSharding(mesh, PartitionSpec("data"))
    divided = run(jax.device_put(x, sharding), jax.device_put(g, sharding))
    assert not divided[0].sharding.is_fully_replicated
    if dtype == jnp.float32:
        assert_close(divided, run(x, g), atol=1e-5)
        return
    for actual, expected in zip(divided, run(x, g), strict=True):
        rounding = 2**-7 if actual.dtype == dtype else 1e-5
        actual, expected = (np.asarray(a, np.float32) for a in (actual, expected))
        np.testing.assert_allclose(actual, expected, rtol=rounding, atol=1e-3)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_shortcut", [False, True])
def test_float32_with_shortcut_and_relu_is_the_plain_form(platform, with_shortcut, relu):
    x, g = normal(3, 4, 5, 6) * 2 + 1, normal(3, 4, 5, 6, seed=1)
    rest = [normal(6, seed=2), normal(6, seed=3)]
    rest += [normal(3, 4, 5, 6, seed=4)] * with_shortcut
    plain = value_and_vjp(lambda *a: batch_norm_plain(*a, relu=relu)[0], g, x, *rest)
    with forms.traced_for(platform):
        ours = value_and_vjp(lambda *a: batch_norm(*a, relu=relu)[0], g, x, *rest)
    assert_close(ours, plain, atol=2e-5)
