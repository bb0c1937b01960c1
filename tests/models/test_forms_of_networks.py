"""Whole networks in each form and compute type, beside those in the forms of a CPU."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brats_jax import models
from brats_jax.runtime import forms
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


@pytest.mark.parametrize("kind", [Segmentation, Pretraining])
def test_a_network_is_the_same_in_the_forms_of_every_platform(kind, monkeypatch):
    """In float32 to rounding; in bfloat16, to whose rounding new networks are sensitive, in
    direction.

    With ReLU in the decoder, rounding decides which side of 0 a few values are on, and gradients
    differ by 0.002 of the largest one. A slope near 1 leaves the rounding alone.
    """
    task = kind(width=4, slope=0.9)
    y, gradients = output_and_gradients(task, jnp.float32)
    with forms.traced_for("gpu"):
        of_gpu = output_and_gradients(task, jnp.float32)
        half_y, half_gradients = output_and_gradients(task, jnp.bfloat16)
    monkeypatch.setenv(forms.VARIABLE, "1")
    for same_y, same_gradients in (of_gpu, output_and_gradients(task, jnp.float32)):
        np.testing.assert_allclose(same_y, y, atol=1e-5 * np.abs(y).max())
        np.testing.assert_allclose(same_gradients, gradients, atol=5e-5 * np.abs(gradients).max())
    assert 0.99 < cosine(half_y, y) < 0.99999  # and they were rounded
    assert cosine(half_gradients, gradients) > 0.6
