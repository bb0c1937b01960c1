"""The network of the first stage: sizes, gradients everywhere, and that it can learn."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brats_jax.losses import mse
from brats_jax.models import ReconstructionModel, TransposedDecoder, apply, split

# These networks run for milliseconds; without optimisation they compile in half the time.
QUICK_COMPILE = {"xla_backend_optimization_level": 0}


@pytest.mark.parametrize(
    "width, channels", [(64, [2048, 256, 128, 64, 32, 16]), (8, [256, 32, 16, 8, 8, 8])]
)
def test_decoder_channels_follow_the_width(width, channels):
    maps = tuple(width * c for c in (1, 4, 8, 16, 32))
    decoder = nnx.eval_shape(lambda: TransposedDecoder(maps, width=width, rngs=nnx.Rngs(0)))
    shapes = [stage.kernel.shape for stage in decoder.stages]
    assert shapes == [(4, 4, i, o) for i, o in pairwise(channels)]
    assert decoder.out_channels == channels[-1]


def test_every_leaf_has_a_gradient_and_the_loss_falls():
    graphdef, params, stats = split(ReconstructionModel(1, width=4, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 32, 32, 1)).astype(np.float32)
    target = x * 0.5 + 1

    @partial(jax.jit, compiler_options=QUICK_COMPILE)
    def step(params, stats):
        def loss(params):
            y, new_stats = apply(graphdef, params, stats, x, train=True)
            return mse(y, target), new_stats

        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        # Signs instead of sizes: a step of 0.003 for every weight, as Adam's first ones are.
        params = jax.tree.map(lambda p, g: p - 0.003 * jnp.sign(g), params, gradient)
        return params, stats, value, gradient

    new_stats, values = stats, []
    for _ in range(12):
        params, new_stats, value, gradient = step(params, new_stats)
        values.append(float(value))
    for path, g in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.abs(g).max() > 0, path
    for before, after in zip(jax.tree.leaves(stats), jax.tree.leaves(new_stats), strict=True):
        assert np.abs(np.asarray(after) - before).max() > 0
    assert values[-1] < 0.6 * values[0], values
