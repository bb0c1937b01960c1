"""ResNet-50 encoder for any number of input channels and any width.

Contract: `ResNet50(C)(x, train=...)` maps x [B, H, W, C] to five maps, finest first,

    map   made by                   stride   channels (width 64)
    c0    conv1, bn1, ReLU               2     64
    c1    max-pool, layer1               4    256
    c2    layer2                         8    512
    c3    layer3                        16   1024
    c4    layer4                        32   2048

with channels in proportion to `width`, and sizes rounded up where the stride does not divide H
or W. Layers, names and padding are those of torchvision's `resnet50`, without `fc` and with the
stride in the 3x3 convolution (v1.5), so torchvision's weights load one to one.

Reference: He et al. 2016, https://arxiv.org/abs/1512.03385;
https://github.com/pytorch/vision/blob/main/torchvision/models/resnet.py
"""

from typing import Protocol

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from brats_jax.errors import BratsError
from brats_jax.models.layers import BatchNorm, Conv
from brats_jax.models.ops import max_pool_3x3_stride2

BLOCKS = (3, 4, 6, 3)
EXPANSION = 4  # output channels of a bottleneck over its inner channels
STRIDE = 32  # of the coarsest map

Maps = tuple[
    Float[Array, "b h0 w0 n0"],
    Float[Array, "b h1 w1 n1"],
    Float[Array, "b h2 w2 n2"],
    Float[Array, "b h3 w3 n3"],
    Float[Array, "b h4 w4 n4"],
]


class Bottleneck(nnx.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions, and a shortcut around them."""

    def __init__(
        self,
        in_channels: int,
        inner_channels: int,
        *,
        stride: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        out_channels = EXPANSION * inner_channels
        self.conv1 = Conv(in_channels, inner_channels, 1, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(inner_channels, dtype=dtype)
        self.conv2 = Conv(inner_channels, inner_channels, 3, stride=stride, dtype=dtype, rngs=rngs)
        self.bn2 = BatchNorm(inner_channels, dtype=dtype)
        self.conv3 = Conv(inner_channels, out_channels, 1, dtype=dtype, rngs=rngs)
        self.bn3 = BatchNorm(out_channels, dtype=dtype)
        self.downsample: nnx.List = nnx.List([])
        if stride != 1 or in_channels != out_channels:
            self.downsample = nnx.List(
                [
                    Conv(in_channels, out_channels, 1, stride=stride, dtype=dtype, rngs=rngs),
                    BatchNorm(out_channels, dtype=dtype),
                ]
            )

    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b ho wo o"]:
        shortcut = x
        if len(self.downsample):
            conv, bn = self.downsample
            shortcut = bn(conv(x), train=train)
        x = self.bn1(self.conv1(x), relu=True, train=train)
        x = self.bn2(self.conv2(x), relu=True, train=train)
        return self.bn3(self.conv3(x), shortcut, relu=True, train=train)


class ResNet50(nnx.Module):
    """ResNet-50 without its classifier; the top of this file describes its five maps.

    Args:
      in_channels: channels of the input, one per modality.
      width: channels of the stem, a positive multiple of 4; 64 in He et al.
      dtype: compute type; parameters and statistics stay float32.
      rngs: needs the stream `params`.

    Attributes:
      channels: channels of the five maps.

    Raises:
      BratsError: `width` is not a positive multiple of 4, or `in_channels` is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        width: int = 64,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if in_channels < 1:
            raise BratsError(f"{in_channels} input channels: name at least one input modality")
        self.channels = channels_of(width)
        self.dtype = dtype
        self.conv1 = Conv(in_channels, width, 7, stride=2, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(width, dtype=dtype)
        self.layer1, self.layer2, self.layer3, self.layer4 = made_stages(width, dtype, rngs)

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        shift: Float[Array, "b 1 1 n0"] | None = None,
        *,
        train: bool,
    ) -> Maps:
        """The five maps; `shift` is added to the stem's before its ReLU."""
        y = self.conv1(x)
        if shift is not None:
            shift = jnp.broadcast_to(shift.astype(y.dtype), y.shape)
        c0 = self.bn1(y, shift, relu=True, train=train)
        return maps_above(self, c0, train=train)


class Stages(Protocol):
    """A module with the four stages above a stem."""

    layer1: nnx.List
    layer2: nnx.List
    layer3: nnx.List
    layer4: nnx.List


def channels_of(width: int) -> tuple[int, ...]:
    """Channels of the five maps (BratsError where `width` is not a positive multiple of 4)."""
    if width < 4 or width % 4:
        raise BratsError(f"model width {width}: choose a positive multiple of 4, e.g. 64")
    return (width, *(EXPANSION * width * 2**stage for stage in range(4)))


def made_stages(width: int, dtype: DTypeLike, rngs: nnx.Rngs) -> list[nnx.List]:
    """The four stages above the stem, newly initialised."""
    channels = channels_of(width)
    return [
        nnx.List(
            [
                Bottleneck(
                    channels[stage + 1] if block else channels[stage],
                    width * 2**stage,
                    stride=2 if stage and not block else 1,
                    dtype=dtype,
                    rngs=rngs,
                )
                for block in range(blocks)
            ]
        )
        for stage, blocks in enumerate(BLOCKS)
    ]


def maps_above(stages: Stages, c0: Float[Array, "b h0 w0 n0"], *, train: bool) -> Maps:
    """The five maps from the stem's."""
    c1 = _stage(stages.layer1, max_pool_3x3_stride2(c0), train)
    c2 = _stage(stages.layer2, c1, train)
    c3 = _stage(stages.layer3, c2, train)
    c4 = _stage(stages.layer4, c3, train)
    return c0, c1, c2, c3, c4


def _stage(blocks: nnx.List, x: Float[Array, "b h w i"], train: bool) -> Float[Array, "b ho wo o"]:
    for block in blocks:
        x = block(x, train=train)
    return x
