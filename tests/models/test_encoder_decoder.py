"""What both networks share: parts, sizes, padding, type of the result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brats_jax.models import ReconstructionModel, SegmentationModel, apply, split
from brats_jax.models.encoder_decoder import decoder_channels, pad_to_multiple

# These networks run for milliseconds; without optimisation they compile in half the time.
QUICK_COMPILE = {"xla_backend_optimization_level": 0}

each_network = pytest.mark.parametrize(
    "network, channels", [(ReconstructionModel, 1), (SegmentationModel, 4)]
)


@each_network
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("size", [(240, 240), (1, 33)])
def test_images_of_any_size_give_that_size_in_float32(network, channels, size, train):
    def run(x):
        return network(2, width=8, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))(x, train=train)

    y = jax.eval_shape(run, jax.ShapeDtypeStruct((3, *size, 2), jnp.bfloat16))
    assert (y.shape, y.dtype) == ((3, *size, channels), jnp.float32)


@each_network
def test_a_network_has_three_parts(network, channels):
    model = nnx.eval_shape(lambda: network(4, width=4, rngs=nnx.Rngs(0)))
    assert set(nnx.state(model)) == {"encoder", "decoder", "head"}
    assert model.head.kernel.shape == (3, 3, model.decoder.out_channels, channels)


@each_network
def test_padding_repeats_the_border_and_is_cropped_away(network, channels):
    graphdef, params, stats = split(network(2, width=4, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(0).standard_normal((1, 24, 31, 2)).astype(np.float32)
    by_hand = np.pad(x, ((0, 0), (0, 8), (0, 1), (0, 0)), "edge")
    run = jax.jit(
        lambda x: apply(graphdef, params, stats, x, train=False)[0], compiler_options=QUICK_COMPILE
    )
    y = run(x)
    assert y.shape == (1, 24, 31, channels)
    np.testing.assert_allclose(y, run(by_hand)[:, :24, :31], atol=1e-4, rtol=1e-5)
    assert np.asarray(y).std() > 0


def test_padding_is_at_the_bottom_and_the_right():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    padded = pad_to_multiple(x, 4)[0, :, :, 0]
    np.testing.assert_array_equal(padded, [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]])
    assert pad_to_multiple(x, 1).shape == x.shape


@pytest.mark.parametrize("width, channels", [(64, (256, 128, 64, 32, 16)), (8, (32, 16, 8, 8, 8))])
def test_decoder_channels_are_in_proportion_to_the_width_and_at_least_8(width, channels):
    assert decoder_channels(width) == channels
