"""The pretext network: some modalities in, another one out.

ResNet-50 encoder, transposed-convolution decoder from H/32 back to H without skip connections
(so that everything the decoder needs has to pass through the encoder), one-channel head.
"""

from itertools import pairwise

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from brats_jax.models.layers import BatchNorm, Conv, he_normal_fan_in, normal
from brats_jax.models.ops.operations import conv_transpose_4x4_stride2, pad_to_multiple
from brats_jax.models.resnet import STRIDE, ResNet50

DECODER_CHANNELS = (256, 128, 64, 32, 16)  # at width 64


class UpConv(nnx.Module):
    """4x4 transposed convolution with stride 2, batch normalisation, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (4, 4, in_channels, out_channels)
        # He's variance, 2 / fan-in: an output pixel sees 2x2 of the 4x4 kernel.
        self.kernel = nnx.Param(normal(rngs.params(), shape, 2 / (2 * 2 * in_channels)))
        self.bn = BatchNorm(out_channels, dtype=dtype)
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b 2*h 2*w o"]:
        y = conv_transpose_4x4_stride2(x.astype(self.dtype), self.kernel[...])
        return self.bn(y, relu=True, train=train)


class TransposedDecoder(nnx.Module):
    """Five transposed convolutions, each twice the size: 2048 -> 256 -> 128 -> 64 -> 32 -> 16.

    Args:
      in_channels: channels of the coarsest map.
      width: the encoder's; channels are in proportion to it, but at least 8.
      dtype: compute type.
      rngs: needs the stream `params`.

    Attributes:
      out_channels: channels of what it returns.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        width: int = 64,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        sizes = [in_channels, *(max(8, c * width // 64) for c in DECODER_CHANNELS)]
        self.out_channels = sizes[-1]
        self.stages = nnx.List([UpConv(i, o, dtype=dtype, rngs=rngs) for i, o in pairwise(sizes)])

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b hf wf o"]:
        for stage in self.stages:
            x = stage(x, train=train)
        return x


class ReconstructionModel(nnx.Module):
    """Predicts one modality from others.

    Args:
      in_channels: number of input modalities.
      width: channels of the encoder's stem, a multiple of 4.
      dtype: compute type of encoder and decoder; the head is float32.
      rngs: needs the stream `params`.

    Attributes:
      encoder, decoder, head: the three parts; the encoder is what transfer takes over.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        width: int = 64,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.encoder = ResNet50(in_channels, width=width, dtype=dtype, rngs=rngs)
        self.decoder = TransposedDecoder(
            self.encoder.channels[-1], width=width, dtype=dtype, rngs=rngs
        )
        self.head = Conv(
            self.decoder.out_channels, 1, 3, use_bias=True, kernel_init=he_normal_fan_in, rngs=rngs
        )

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w 1"]:
        """Returns float32[B, H, W, 1] for any H and W (padded to a multiple of 32, cropped)."""
        height, width = x.shape[1:3]
        maps = self.encoder(pad_to_multiple(x, STRIDE), train=train)
        y = self.head(self.decoder(maps[-1], train=train))
        return y[:, :height, :width]
