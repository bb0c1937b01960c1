"""The network of the first stage: modalities in, modalities out.

The decoder of the paper:

    map     stride   made from                       channels (width 64)
    d4          16   transposed convolution of c4            256
    d3           8   of d4                                   128
    d2           4   of d3                                    64
    d1           2   of d2                                    32
    d0           1   of d1                                    16
    image        1   3x3 convolution of d0               targets

c4 is the coarsest map of `resnet.ResNet50`. There are no skip connections, so all information
passes through it. The other decoder is the one of `unet`, which has them.

Reference: Dumoulin & Visin 2016 (transposed convolutions), https://arxiv.org/abs/1603.07285
"""

from itertools import pairwise

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from brats_jax.models.encoder_decoder import EncoderDecoder, decoder_channels
from brats_jax.models.fusion import Fusion
from brats_jax.models.layers import BatchNorm, activated, normal
from brats_jax.models.ops import conv_transpose_4x4_stride2
from brats_jax.models.resnet import Maps
from brats_jax.models.unet import UNetDecoder


class UpConv(nnx.Module):
    """4x4 transposed convolution with stride 2, batch normalisation, ReLU or leaky ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        slope: float = 0.0,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (4, 4, in_channels, out_channels)
        # He's variance, 2 / fan-in: an output pixel sees 2x2 of the 4x4 kernel.
        self.kernel = nnx.Param(normal(rngs.params(), shape, 2 / (2 * 2 * in_channels)))
        self.bn = BatchNorm(out_channels, dtype=dtype)
        self.slope, self.dtype = slope, dtype

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b 2*h 2*w o"]:
        y = conv_transpose_4x4_stride2(x.astype(self.dtype), self.kernel[...])
        return activated(self.bn, y, self.slope, train=train)


class TransposedDecoder(nnx.Module):
    """Five transposed convolutions of the coarsest map, each twice the size.

    Channels are 2048 -> 256 -> 128 -> 64 -> 32 -> 16 at width 64.

    Args:
      encoder_channels: channels of the encoder's five maps, finest first.
      width: the encoder's; channels are in proportion to it, but at least 8.
      slope: of the activations below 0; 0 is ReLU.
      dtype: compute type.
      rngs: needs the stream `params`.

    Attributes:
      out_channels: channels of the result.
    """

    def __init__(
        self,
        encoder_channels: tuple[int, ...],
        *,
        width: int = 64,
        slope: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        sizes = (encoder_channels[-1], *decoder_channels(width))
        self.out_channels = sizes[-1]
        self.stages = nnx.List(
            [UpConv(i, o, slope=slope, dtype=dtype, rngs=rngs) for i, o in pairwise(sizes)]
        )

    def __call__(self, maps: Maps, *, train: bool) -> Float[Array, "b hf wf o"]:
        x = maps[-1]
        for stage in self.stages:
            x = stage(x, train=train)
        return x


# The decoders by their names in settings and checkpoints, the default first.
DECODERS: dict[str, type] = {"transposed": TransposedDecoder, "unet": UNetDecoder}


class ReconstructionModel(EncoderDecoder):
    """Predicts modalities from others: float32[B, H, W, out_channels].

    Args:
      in_channels: number of input modalities.
      out_channels: number of predicted modalities.
      decoder: a key of `DECODERS`.
      width, slope, fusion, dtype, rngs: see `EncoderDecoder`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 1,
        *,
        decoder: str = "transposed",
        width: int = 64,
        slope: float = 0.0,
        fusion: Fusion | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            DECODERS[decoder],
            width=width,
            slope=slope,
            fusion=fusion,
            dtype=dtype,
            rngs=rngs,
        )
