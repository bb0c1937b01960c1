"""Batch normalisation over groups of the batch: by hand, in every form, and over devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from meshes import mesh_of
from vjps import assert_close, normal, value_and_vjp

from brats_jax.models.layers import BatchNorm
from brats_jax.models.ops.batch_norm import batch_norm
from brats_jax.models.ops.groups import Groups, normalised_over
from brats_jax.runtime import forms

PAIRS = Groups(2)


def grouped(*arguments, **options):
    with normalised_over(PAIRS):
        return batch_norm(*arguments, **options)


def test_each_pair_is_normalised_by_itself_and_the_running_statistics_are_means_over_pairs():
    """Samples 1, 3 | 10, 30: means 2 and 20, variances 1 and 100."""
    x = jnp.array([1.0, 3.0, 10.0, 30.0]).reshape(4, 1, 1, 1)
    with normalised_over(PAIRS):
        norm = BatchNorm(1)
        y = norm(x, train=True)
    np.testing.assert_allclose(y.ravel(), [-1, 1, -1, 1], rtol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.1 * 11, rtol=1e-6)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * 50.5, rtol=1e-6)
    # In prediction there are no groups.
    with normalised_over(PAIRS):
        y = norm(x, train=False)
    np.testing.assert_allclose(y.ravel(), (x.ravel() - 1.1) / np.sqrt(5.95), rtol=1e-5)


@pytest.mark.parametrize("with_shortcut", [False, True])
@pytest.mark.parametrize("form", ["plain", "cpu", "gpu", "bfloat16"])
def test_groups_and_their_gradients_are_those_of_batches_of_that_size(
    form, with_shortcut, monkeypatch
):
    """Each pair as a batch of its own, in float64; gradients of scale and bias are sums."""
    shape = (4, 32, 32, 2) if form == "bfloat16" else (4, 3, 5, 2)  # sums in parts
    dtype = jnp.bfloat16 if form == "bfloat16" else jnp.float32
    x = normal(*shape) * 2 + np.arange(4)[:, None, None, None]
    arrays = [x, normal(*shape, seed=1), normal(*shape, seed=2)]
    x, g, shortcut = (jnp.asarray(a, dtype) for a in arrays)
    vectors, rest = [normal(2, seed=3), normal(2, seed=4)], [shortcut] * with_shortcut
    monkeypatch.setenv(forms.VARIABLE, "batch_norm" if form == "plain" else "")
    with forms.traced_for("cpu" if form == "cpu" else "gpu"):
        actual = value_and_vjp(lambda *a: grouped(*a, relu=True)[0], g, x, *vectors, *rest)
        _, mean, var = jax.jit(grouped)(x, *vectors)

    parts = [np.asarray(a, np.float64).reshape(2, 2, *shape[1:]) for a in (g, x, *rest)]
    each = [_exact(part[0], part[1], *vectors, *part[2:]) for part in zip(*parts, strict=True)]
    expected = [np.concatenate(a) if a[0].ndim == 4 else sum(a) for a in zip(*each, strict=True)]
    far = 2e-5 if dtype == jnp.float32 else 0.05
    for one, other in zip(actual, expected, strict=True):
        size = max(1, np.abs(other).max())
        np.testing.assert_allclose(np.asarray(one, np.float64), other, atol=far * size)
    np.testing.assert_allclose(mean, parts[1].mean((1, 2, 3)).mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(var, parts[1].var((1, 2, 3)).mean(0), rtol=1e-4)


def _exact(g, x, scale, bias, shortcut=0.0):
    """y and the gradients of x, scale, bias (and shortcut) of one batch, in float64."""
    axes = (0, 1, 2)
    inverse = 1 / np.sqrt(x.var(axes) + 1e-5)
    xhat = (x - x.mean(axes)) * inverse
    before = xhat * scale + bias + shortcut
    g = np.where(before > 0, g, 0)
    d_x = (g - g.mean(axes) - xhat * (g * xhat).mean(axes)) * inverse * scale
    found = [np.maximum(before, 0), d_x, (g * xhat).sum(axes), g.sum(axes)]
    return found if np.isscalar(shortcut) else [*found, g]


@pytest.mark.parametrize("form", ["plain", "float32", "bfloat16"])
def test_a_group_that_two_devices_share_is_one_batch(form, monkeypatch):
    monkeypatch.setenv(forms.VARIABLE, "batch_norm" if form == "plain" else "")
    dtype = jnp.bfloat16 if form == "bfloat16" else jnp.float32
    x, g = normal(4, 3, 5, 2) + np.arange(4)[:, None, None, None], normal(4, 3, 5, 2, seed=1)
    x, g, vectors = jnp.asarray(x, dtype), jnp.asarray(g, dtype), (normal(2), normal(2, seed=3))

    def run(x, g, scale, bias):
        (y, mean, var), vjp = jax.vjp(batch_norm, x, scale, bias)
        statistics = jnp.stack([mean, var])
        d_x, *of_vectors = vjp((g, jnp.zeros_like(mean), jnp.zeros_like(var)))
        return y, d_x, statistics[None], jnp.stack(of_vectors)[None]

    data = PartitionSpec("data")

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh_of(2), in_specs=data, out_specs=data)
    def divided(x, g):
        with normalised_over(Groups(2, "data", 2)):
            own = (jax.lax.pcast(vector, "data", to="varying") for vector in vectors)
            return run(x, g, *own)

    y, d_x, statistics, of_vectors = divided(x, g)
    expected = jax.jit(run)(x, g, *vectors)
    rounding = 1e-5 if dtype == jnp.float32 else 0.02
    assert_close([y.astype(jnp.float32)], [expected[0].astype(jnp.float32)], atol=rounding)
    assert_close([d_x.astype(jnp.float32)], [expected[1].astype(jnp.float32)], atol=rounding)
    for mine in statistics:  # both devices have those of the group
        np.testing.assert_allclose(mine, expected[2][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_vectors.sum(0), expected[3][0], atol=rounding * 10)
