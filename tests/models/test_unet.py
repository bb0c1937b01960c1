"""The segmentation network: the decoder against its textbook form, sizes, that it can learn."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from brats_jax.losses import dice_ce
from brats_jax.models import (
    DeeplySupervisedModel,
    SegmentationModel,
    UNetDecoder,
    apply,
    split,
    without_auxiliary,
)
from brats_jax.models.unet import UpBlock

# These networks run for milliseconds; without optimisation they compile in half the time.
QUICK_COMPILE = {"xla_backend_optimization_level": 0}


@pytest.mark.parametrize("skip_channels", [5, 0])
def test_up_block_is_upsample_concatenate_convolve(skip_channels):
    block = UpBlock(6, skip_channels, 7, dtype=jnp.float32, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, 6)).astype(np.float32)
    skip = rng.standard_normal((2, 6, 8, 5)).astype(np.float32) if skip_channels else None
    graphdef, params, stats = split(block)

    def convolve_normalise(x, kernel):
        y = lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        mean, var = y.mean((0, 1, 2)), y.var((0, 1, 2))
        return jnp.maximum((y - mean) / jnp.sqrt(var + 1e-5), 0)

    @jax.jit
    def textbook(x, skip):
        y = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
        y = y if skip is None else jnp.concatenate([y, skip], -1)
        y = convolve_normalise(y, params["block1"]["conv"]["kernel"][...])
        return convolve_normalise(y, params["block2"]["conv"]["kernel"][...])

    @jax.jit
    def ours(x, skip):
        model = nnx.merge(graphdef, params, stats, copy=True)
        return model(x, skip, train=True)

    np.testing.assert_allclose(ours(x, skip), textbook(x, skip), atol=1e-4)


@pytest.mark.parametrize(
    "width, channels", [(64, [2048, 256, 128, 64, 32, 16]), (8, [256, 32, 16, 8, 8, 8])]
)
def test_decoder_channels_and_skips_follow_the_width(width, channels):
    maps = tuple(width * c for c in (1, 4, 8, 16, 32))
    decoder = nnx.eval_shape(lambda: UNetDecoder(maps, width=width, rngs=nnx.Rngs(0)))
    skips = [maps[3], maps[2], maps[1], maps[0], 0]
    for stage, i, skip, o in zip(decoder.stages, channels, skips, channels[1:], strict=False):
        assert stage.block1.conv.kernel.shape == (3, 3, i + skip, o)
        assert stage.block2.conv.kernel.shape == (3, 3, o, o)
    assert decoder.out_channels == channels[-1]


def test_every_leaf_has_a_gradient_and_the_loss_falls():
    graphdef, params, stats = split(SegmentationModel(1, width=4, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(0).standard_normal((4, 32, 32, 1)).astype(np.float32)
    labels = np.digitize(x[..., 0], (0.2, 0.8, 1.5))  # what one pixel says by itself

    @partial(jax.jit, compiler_options=QUICK_COMPILE)
    def step(params, stats):
        def loss(params):
            y, new_stats = apply(graphdef, params, stats, x, train=True)
            return dice_ce(y, labels), new_stats

        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        # Signs instead of sizes: a step of 0.003 for every weight, as Adam's first ones are.
        params = jax.tree.map(lambda p, g: p - 0.003 * jnp.sign(g), params, gradient)
        return params, stats, value, gradient

    new_stats, values = stats, []
    for _ in range(15):
        params, new_stats, value, gradient = step(params, new_stats)
        values.append(float(value))
    for path, g in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.abs(g).max() > 0, path
    for before, after in zip(jax.tree.leaves(stats), jax.tree.leaves(new_stats), strict=True):
        assert np.abs(np.asarray(after) - before).max() > 0
    assert values[-1] < 0.75 * values[0], values


def test_a_deeply_supervised_network_is_the_plain_one_with_heads_at_strides_2_4_and_8(shallow):
    """The same initial values, logits and statistics; 36 x 40 pixels are padded to 64 x 64."""
    plain, deep = (
        split(kind(4, 3, width=8, rngs=nnx.Rngs(1)))
        for kind in (SegmentationModel, DeeplySupervisedModel)
    )
    jax.tree.map(np.testing.assert_array_equal, without_auxiliary(deep[1]), plain[1])
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 36, 40, 4)), jnp.float32)

    @partial(jax.jit, compiler_options=QUICK_COMPILE)
    def both(params, stats, x):
        plain_params = without_auxiliary(params)
        return (
            apply(plain[0], plain_params, stats, x, train=True),
            apply(deep[0], params, stats, x, train=True),
        )

    (expected, stats), (found, deep_stats) = both(*deep[1:], x)
    np.testing.assert_allclose(found.logits, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), deep_stats, stats)
    shapes = {stride: array.shape for stride, array in found.auxiliary.items()}
    assert shapes == {2: (1, 32, 32, 3), 4: (1, 16, 16, 3), 8: (1, 8, 8, 3)}
    assert all(array.dtype == jnp.float32 for array in found.auxiliary.values())
    tested = jax.eval_shape(lambda: apply(*deep, x, train=False))[0]
    assert tested.shape == (1, 36, 40, 3)
