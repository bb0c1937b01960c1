"""Whole networks in the forms and the type of accelerators, beside those of a CPU."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brats_jax import models
from brats_jax.models.ops import operations
from brats_jax.tasks import Pretraining, Segmentation

pytestmark = pytest.mark.usefixtures("shallow")


def output_and_gradients(task, dtype):
    """Both as one vector each, of a network just initialised, the gradients of a random sum."""
    task = dataclasses.replace(task, dtype=dtype)
    graph, params, stats = models.split(task.build(0))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 64, 64, len(task.inputs))).astype(np.float32)

    @jax.jit
    def run(params, x):
        def weighted(params):
            y, _ = models.apply(graph, params, stats, x, train=True)
            return (y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)).mean(), y

        return jax.grad(weighted, has_aux=True)(params)

    gradients, y = run(params, x)
    leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(gradients)]
    return np.ravel(y), np.concatenate(leaves)


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.mark.parametrize("task", [Segmentation(width=4), Pretraining(width=4)])
def test_a_network_in_accelerators_forms_is_that_of_a_cpu(task, monkeypatch):
    """In float32 to rounding; in bfloat16, which a fresh network makes much of, in direction."""
    y, gradients = output_and_gradients(task, jnp.float32)
    monkeypatch.setattr(operations, "on_cpu", lambda: False)
    same_y, same_gradients = output_and_gradients(task, jnp.float32)
    np.testing.assert_allclose(same_y, y, atol=1e-4 * np.abs(y).max())
    np.testing.assert_allclose(same_gradients, gradients, atol=1e-3 * np.abs(gradients).max())
    half_y, half_gradients = output_and_gradients(task, jnp.bfloat16)
    assert 0.99 < cosine(half_y, y) < 0.99999  # and they were rounded
    assert cosine(half_gradients, gradients) > 0.6
