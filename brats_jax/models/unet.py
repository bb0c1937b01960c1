"""The segmentation network: ResNet-50 encoder, U-Net decoder with skip connections, head.

    map     stride   made from              channels (width 64)
    d4          16   up(c4), c3                    256
    d3           8   up(d4), c2                    128
    d2           4   up(d3), c1                     64
    d1           2   up(d2), c0                     32
    d0           1   up(d1)                         16
    logits       1   3x3 convolution of d0     classes

c0 to c4 are the maps of `resnet.ResNet50`.

Reference: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597
"""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from brats_jax.models.encoder_decoder import EncoderDecoder, decoder_channels
from brats_jax.models.layers import ConvBNReLU
from brats_jax.models.resnet import Maps


class UpBlock(nnx.Module):
    """Up-samples by 2 (nearest), concatenates the skip, then twice 3x3 convolution, BN, ReLU.

    Args:
      in_channels: channels of the coarse map; they come first in the concatenation.
      skip_channels: channels of the encoder map at the fine size, 0 for none.
      out_channels: channels returned.
      dtype: compute type.
      rngs: needs the stream `params`.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        self.block1 = ConvBNReLU(in_channels + skip_channels, out_channels, dtype=dtype, rngs=rngs)
        self.block2 = ConvBNReLU(out_channels, out_channels, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "b h w i"],
        skip: Float[Array, "b 2*h 2*w s"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "b 2*h 2*w o"]:
        return self.block2(self.block1.upsampled(x, skip, train=train), train=train)


class UNetDecoder(nnx.Module):
    """Five up-blocks: four concatenate c3, c2, c1, c0, the last one has no skip connection.

    Args:
      encoder_channels: channels of the encoder's five maps, finest first.
      width: the encoder's; channels are 256, 128, 64, 32, 16 in proportion to it, at least 8.
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
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        *skips, coarsest = encoder_channels
        sizes = (coarsest, *decoder_channels(width))
        self.out_channels = sizes[-1]
        self.stages = nnx.List(
            [
                UpBlock(i, s, o, dtype=dtype, rngs=rngs)
                for i, s, o in zip(sizes[:-1], [*reversed(skips), 0], sizes[1:], strict=True)
            ]
        )

    def __call__(self, maps: Maps, *, train: bool) -> Float[Array, "b hf wf o"]:
        *skips, x = maps
        for stage, skip in zip(self.stages, [*reversed(skips), None], strict=True):
            x = stage(x, skip, train=train)
        return x


class SegmentationModel(EncoderDecoder):
    """Logits of every class for every pixel: float32[B, H, W, classes].

    Args:
      in_channels: number of input modalities.
      num_classes: classes, background included.
      width, dtype, rngs: see `EncoderDecoder`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 4,
        *,
        width: int = 64,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(in_channels, num_classes, UNetDecoder, width=width, dtype=dtype, rngs=rngs)
