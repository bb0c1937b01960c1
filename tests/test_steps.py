"""The compiled training step: what it is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType

from brats_jax import models
from brats_jax.models import resnet
from brats_jax.models.operations import max_pool_3x3_stride2
from brats_jax.optim import adam
from brats_jax.steps import TrainState, make_train_step
from brats_jax.tasks import Reconstruction, Segmentation


def plain_pool(x):
    window = (1, 3, 3, 1)
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, window, (1, 2, 2, 1), padding)


def gradient_of(pool):
    return jax.grad(lambda x, g: (pool(x) * g).sum())


@pytest.mark.parametrize("task", [Reconstruction(width=4), Segmentation(width=4)])
def test_no_operation_of_the_step_lacks_a_deterministic_form(task, monkeypatch):
    """On GPU, `select_and_scatter` (a max-pool's usual gradient) adds up in any order."""
    monkeypatch.setattr(resnet, "BLOCKS", (1, 1, 1, 1))
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1], axis_types=(AxisType.Auto,))
    graph, params, stats = models.split(task.build(0))
    optimizer = adam(lambda step: 1e-3)
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(params, stats, optimizer.init(params), zero, jnp.zeros(()), zero)
    batch = {
        "image": jnp.zeros((2, 32, 32, 4), jnp.float16),
        "label": jnp.zeros((2, 32, 32), jnp.uint8),
        "seed": jnp.zeros(2, jnp.uint32),
    }
    step = make_train_step(task, graph, optimizer, mesh)
    text = jax.jit(step).lower(state, batch).as_text()
    assert "stablehlo.convolution" in text and "select_and_scatter" not in text
    # It would be found if it were there.
    x = jnp.zeros((1, 4, 4, 1))
    text = jax.jit(gradient_of(plain_pool)).lower(x, jnp.zeros((1, 2, 2, 1))).as_text()
    assert "select_and_scatter" in text


def test_the_pools_own_gradient_is_the_plain_one_also_among_ties():
    """Many ties, and the gradient of a window goes to the first of them in row-major order."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(-2, 2, (2, 7, 6, 3)), jnp.float32)
    np.testing.assert_array_equal(max_pool_3x3_stride2(x), plain_pool(x))
    # Whole numbers: their sums are exact in any order.
    g = jnp.asarray(rng.integers(-9, 9, plain_pool(x).shape), jnp.float32)
    ours, plain = (jax.jit(gradient_of(pool))(x, g) for pool in (max_pool_3x3_stride2, plain_pool))
    np.testing.assert_array_equal(ours, plain)
