"""Models as pure functions of their state."""

import jax
import jax.numpy as jnp
import numpy as np

from brats_jax import models
from brats_jax.models.layers import BatchNorm


def test_applying_a_model_in_training_returns_new_statistics_and_keeps_the_old():
    graph, params, stats = models.split(BatchNorm(2))
    before = jax.device_get(stats)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 8, 2)), jnp.float32)
    _, after = models.apply(graph, params, stats, x, train=True)
    _, same = models.apply(graph, params, stats, x, train=False)
    jax.tree.map(np.testing.assert_array_equal, stats, before)
    jax.tree.map(np.testing.assert_array_equal, same, before)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (after, before)), strict=True))
