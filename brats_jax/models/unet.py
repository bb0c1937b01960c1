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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from brats_jax.models.encoder_decoder import EncoderDecoder, decoder_channels, pad_to_multiple
from brats_jax.models.fusion import Fusion
from brats_jax.models.layers import Conv, ConvBNReLU, he_normal_fan_in
from brats_jax.models.resnet import STRIDE, Maps

# Of the auxiliary heads. The decoder's coarsest map, at stride 16, has none, as in nnU-Net.
AUXILIARY_STRIDES = (2, 4, 8)


class UpBlock(nnx.Module):
    """Up-samples by 2 (nearest), concatenates the skip, then twice 3x3 convolution, BN, ReLU.

    Args:
      in_channels: channels of the coarse map; they come first in the concatenation.
      skip_channels: channels of the encoder map at the fine size, 0 for none.
      out_channels: channels returned.
      slope: of the activation below 0.
      dtype: compute type.
      rngs: needs the stream `params`.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        *,
        slope: float = 0.0,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        channels = in_channels + skip_channels
        self.block1 = ConvBNReLU(channels, out_channels, slope=slope, dtype=dtype, rngs=rngs)
        self.block2 = ConvBNReLU(out_channels, out_channels, slope=slope, dtype=dtype, rngs=rngs)

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
        *skips, coarsest = encoder_channels
        sizes = (coarsest, *decoder_channels(width))
        self.out_channels = sizes[-1]
        self.stages = nnx.List(
            [
                UpBlock(i, s, o, slope=slope, dtype=dtype, rngs=rngs)
                for i, s, o in zip(sizes[:-1], [*reversed(skips), 0], sizes[1:], strict=True)
            ]
        )

    def __call__(self, maps: Maps, *, train: bool) -> Float[Array, "b hf wf o"]:
        return self.all_maps(maps, train=train)[-1]

    def all_maps(self, maps: Maps, *, train: bool) -> list[Float[Array, "b hk wk ok"]]:
        """The maps at strides 16, 8, 4, 2 and 1."""
        *skips, x = maps
        found = []
        for stage, skip in zip(self.stages, [*reversed(skips), None], strict=True):
            x = stage(x, skip, train=train)
            found.append(x)
        return found


class SegmentationModel(EncoderDecoder):
    """Logits of every class for every pixel: float32[B, H, W, classes].

    Args:
      in_channels: number of input modalities.
      num_classes: classes, background included.
      width, slope, fusion, dtype, rngs: see `EncoderDecoder`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 4,
        *,
        width: int = 64,
        slope: float = 0.0,
        fusion: Fusion | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            UNetDecoder,
            width=width,
            slope=slope,
            fusion=fusion,
            dtype=dtype,
            rngs=rngs,
        )


class Supervised(NamedTuple):
    """The result of a deeply supervised network in training.

    Attributes:
      logits: float32[B, H, W, classes].
      auxiliary: by stride s of AUXILIARY_STRIDES, float32[B, ceil(H / s), ceil(W / s), classes] or
        larger where the image was padded.
    """

    logits: jax.Array
    auxiliary: dict[int, jax.Array]


class DeeplySupervisedModel(SegmentationModel):
    """A `SegmentationModel` with 1x1 convolutions as further heads, of coarser maps of the decoder.

    The heads are for the loss in training alone: `without_auxiliary` gives the parameters of the
    `SegmentationModel` that is left, whose initial values are the same with and without them.

    Args: as in `SegmentationModel`.

    Reference: Lee et al. 2015 (deeply-supervised nets), https://arxiv.org/abs/1409.5185;
    Isensee et al. 2021 (nnU-Net), https://doi.org/10.1038/s41592-020-01008-z
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 4,
        *,
        width: int = 64,
        slope: float = 0.0,
        fusion: Fusion | None = None,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            width=width,
            slope=slope,
            fusion=fusion,
            dtype=dtype,
            rngs=rngs,
        )
        finest_first = decoder_channels(width)[::-1]
        self.auxiliary = nnx.List(
            [
                Conv(c, num_classes, 1, use_bias=True, kernel_init=he_normal_fan_in, rngs=rngs)
                for c in finest_first[1 : 1 + len(AUXILIARY_STRIDES)]
            ]
        )

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Any:
        """In training `Supervised`, otherwise the logits alone."""
        if not train:
            return super().__call__(x, train=False)
        assert isinstance(self.decoder, UNetDecoder)
        height, width = x.shape[1:3]
        maps = self.encoder(pad_to_multiple(x, STRIDE), train=True)
        finest, *coarser = self.decoder.all_maps(maps, train=True)[::-1]
        heads = zip(AUXILIARY_STRIDES, self.auxiliary, coarser, strict=False)
        return Supervised(
            self.head(finest)[:, :height, :width],
            {stride: head(y) for stride, head, y in heads},
        )
