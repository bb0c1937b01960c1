"""The shape that both networks share: encoder, decoder, head; any image size in, the same out."""

from typing import Protocol

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from brats_jax.models.fusion import FUSIONS, Fusion
from brats_jax.models.layers import Conv, he_normal_fan_in
from brats_jax.models.resnet import STRIDE, Maps, ResNet50

DECODER_CHANNELS = (256, 128, 64, 32, 16)  # at width 64


def decoder_channels(width: int) -> tuple[int, ...]:
    """Output channels of a decoder's five stages, in proportion to the width and at least 8."""
    return tuple(max(8, channels * width // 64) for channels in DECODER_CHANNELS)


class Decoder(Protocol):
    """A module that makes one map of the input's size from the encoder's five maps."""

    out_channels: int

    def __call__(self, maps: Maps, *, train: bool) -> Float[Array, "b hf wf o"]: ...


class EncoderDecoder(nnx.Module):
    """ResNet-50 encoder, a decoder back to full resolution, and a 3x3 convolution as head.

    Args:
      in_channels: number of input modalities.
      out_channels: channels of the result.
      decoder: class of the decoder, called as
        `decoder(encoder_channels, width=..., slope=..., dtype=..., rngs=...)`.
      width: channels of the encoder's stem, a multiple of 4.
      slope: of the decoder's activations below 0: 0 is ReLU, more is leaky ReLU.
      fusion: how the encoder fuses the modalities of its input; None: as `ResNet50(in_channels)`.
      dtype: compute type of encoder and decoder; the head computes in float32.
      rngs: needs the stream `params`.

    Attributes:
      encoder, decoder, head: the three parts; transfer copies the encoder.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        decoder: type,
        *,
        width: int,
        slope: float = 0.0,
        fusion: Fusion | None = None,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        if fusion is None:
            self.encoder = ResNet50(in_channels, width=width, dtype=dtype, rngs=rngs)
        else:
            self.encoder = FUSIONS[fusion.name](fusion, width=width, dtype=dtype, rngs=rngs)
        self.decoder: Decoder = decoder(
            self.encoder.channels, width=width, slope=slope, dtype=dtype, rngs=rngs
        )
        self.head = Conv(
            self.decoder.out_channels,
            out_channels,
            3,
            use_bias=True,
            kernel_init=he_normal_fan_in,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w o"]:
        """Returns float32[B, H, W, out_channels] for any H and W.

        The image is padded to multiples of 32 and the result cropped.
        """
        height, width = x.shape[1:3]
        maps = self.encoder(pad_to_multiple(x, STRIDE), train=train)
        y = self.head(self.decoder(maps, train=train))
        return y[:, :height, :width]


def pad_to_multiple(x: Float[Array, "b h w c"], multiple: int) -> Float[Array, "b hp wp c"]:
    """Pads at the bottom and the right to the next multiple, repeating the border pixels.

    Repeated rather than zero: in a z-scored slice the background is the slice's minimum and
    zero is the mean, so zeros would put a bright frame beside the head. The border of a
    skull-stripped slice is background, and repeating it continues that.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        if missing := -size % multiple:
            # Not jnp.pad: XLA:CPU takes three to ten times as long for its concatenation.
            pixels = np.minimum(np.arange(size + missing), size - 1)
            x = jnp.take(x, pixels, axis=axis, mode="clip")
    return x
