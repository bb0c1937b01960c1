"""The segmentation network: ResNet-50 encoder, U-Net decoder with skip connections, head.

Reference: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597
"""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from brats_jax.models.layers import Conv, ConvBNReLU, he_normal_fan_in
from brats_jax.models.ops.operations import pad_to_multiple
from brats_jax.models.resnet import STRIDE, Maps, ResNet50

DECODER_CHANNELS = (256, 128, 64, 32, 16)  # at width 64


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
    """Five up-blocks: four join c3, c2, c1, c0, the last one reaches full resolution.

    Args:
      encoder_channels: channels of the encoder's five maps, finest first.
      width: the encoder's; channels are 256, 128, 64, 32, 16 in proportion to it, at least 8.
      dtype: compute type.
      rngs: needs the stream `params`.

    Attributes:
      out_channels: channels of what it returns.
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
        sizes = [coarsest, *(max(8, c * width // 64) for c in DECODER_CHANNELS)]
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


class SegmentationModel(nnx.Module):
    """Logits of every class for every pixel.

    Args:
      in_channels: number of input modalities.
      num_classes: classes, background included.
      width: channels of the encoder's stem, a multiple of 4.
      dtype: compute type of encoder and decoder; the head is float32.
      rngs: needs the stream `params`.

    Attributes:
      encoder, decoder, head: the three parts; the encoder is what transfer takes over.
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
        self.encoder = ResNet50(in_channels, width=width, dtype=dtype, rngs=rngs)
        self.decoder = UNetDecoder(self.encoder.channels, width=width, dtype=dtype, rngs=rngs)
        self.head = Conv(
            self.decoder.out_channels,
            num_classes,
            3,
            use_bias=True,
            kernel_init=he_normal_fan_in,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w k"]:
        """Returns float32[B, H, W, classes] for any H and W (padded to 32 multiples, cropped)."""
        height, width = x.shape[1:3]
        maps = self.encoder(pad_to_multiple(x, STRIDE), train=train)
        y = self.head(self.decoder(maps, train=train))
        return y[:, :height, :width]
