"""Layers: initial values, running statistics, compute types."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brats_jax.models import apply, split
from brats_jax.models.layers import (
    BatchNorm,
    Conv,
    ConvBNReLU,
    he_normal_fan_in,
    he_normal_fan_out,
    normal,
)


def test_initial_values_have_the_stated_variance_and_depend_on_the_key():
    shape, key = (3, 3, 50, 80), jax.random.key(1)
    for init, fan in ((he_normal_fan_out, 9 * 80), (he_normal_fan_in, 9 * 50)):
        kernel = np.asarray(init(key, shape))
        np.testing.assert_allclose(kernel.var(), 2 / fan, rtol=0.03)
        assert abs(kernel.mean()) < 3 * np.sqrt(2 / fan / kernel.size)
        np.testing.assert_array_equal(kernel, init(key, shape))
        assert not np.array_equal(kernel, init(jax.random.key(2), shape))


def test_traced_and_eager_draws_are_the_same():
    key = jax.random.key(3)
    traced = jax.jit(lambda key: normal(key, (4, 5), 1.0))(key)
    np.testing.assert_array_equal(traced, normal(key, (4, 5), 1.0))
    stacked = jax.vmap(lambda key: normal(key, (4, 5), 1.0))(jnp.stack([key, jax.random.key(4)]))
    np.testing.assert_array_equal(stacked[0], traced)


def test_a_slope_leaks_below_zero_and_keeps_a_gradient_there():
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    made = {slope: split(ConvBNReLU(3, 5, slope=slope, rngs=nnx.Rngs(0))) for slope in (0.0, 0.1)}
    relu, leaky = (apply(*made[slope], x, train=True)[0] for slope in made)
    np.testing.assert_allclose(np.maximum(leaky, 0), relu, atol=1e-6)
    normalised = np.where(leaky > 0, leaky, leaky / 0.1)
    np.testing.assert_allclose(normalised.mean((0, 1, 2)), 0, atol=1e-5)
    evaluated = apply(*made[0.1], x, train=False)[0]
    assert (evaluated < 0).any() and not (apply(*made[0.0], x, train=False)[0] < 0).any()


def test_running_statistics_move_a_tenth_and_only_in_training():
    graphdef, params, stats = split(BatchNorm(2))
    x = jnp.array([[1.0, 10.0], [3.0, 30.0]]).reshape(2, 1, 1, 2)  # mean 2, 20; var 1, 100
    y, moved = apply(graphdef, params, stats, x, train=True)
    np.testing.assert_allclose(y[:, 0, 0], [[-1, -1], [1, 1]], rtol=1e-4)
    np.testing.assert_allclose(moved["mean"][...], [0.2, 2], rtol=1e-6)
    np.testing.assert_allclose(moved["var"][...], [0.9 + 0.1, 0.9 + 10], rtol=1e-6)
    np.testing.assert_array_equal(stats["mean"][...], 0)  # what was given is not written to
    y, same = apply(graphdef, params, moved, x, train=False)
    expected = (x - moved["mean"][...]) / np.sqrt(moved["var"][...] + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    assert same is moved


def test_evaluation_in_bfloat16_does_not_round_the_statistics():
    graphdef, params, stats = split(BatchNorm(1, dtype=jnp.bfloat16))
    # 1.001 is 1.0 in bfloat16, where the difference from 1 would be lost; var is tiny.
    stats = jax.tree.map(lambda s: jnp.full_like(s, 1.001), stats)
    stats["var"] = jnp.full(1, 1e-4)
    y, _ = apply(graphdef, params, stats, jnp.ones((1, 1, 1, 1)), train=False)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(y[0, 0, 0, 0]), -0.001 / np.sqrt(1e-4 + 1e-5), rtol=0.01)


def test_convolution_computes_in_its_type_with_float32_parameters():
    conv = Conv(3, 4, 3, use_bias=True, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert conv.kernel[...].dtype == conv.bias[...].dtype == jnp.float32
    conv.bias[...] = jnp.arange(4.0)
    y = conv(jnp.zeros((1, 5, 5, 3)))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y[0, 2, 2].astype(jnp.float32), [0, 1, 2, 3])
