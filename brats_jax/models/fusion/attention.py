"""An encoder for each modality; attention over modalities at each stride, and over positions.

As `encoders`, with `base.ModalityAttention` in place of the mean at each of the five strides. The
fused coarsest map then attends to all of its positions, which the mean of no window reaches:

    c4 + O softmax(Q c4 . K c4 / sqrt(d)) V c4

Both start as the mean: the queries over modalities and O are 0 at first.

Reference: Zhang et al. 2022 (mmFormer), https://arxiv.org/abs/2206.02425, whose transformers attend
over modalities and over positions of the coarsest map; Chen et al. 2019 (gated fusion at every
scale), https://arxiv.org/abs/2002.09708; the block over positions is that of Wang et al. 2018
(non-local networks), https://arxiv.org/abs/1711.07971, with heads
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from brats_jax.models.fusion.base import Fusion, Images, ModalityAttention, OfEach, Present, zeros
from brats_jax.models.fusion.encoders import Encoders
from brats_jax.models.layers import Conv, he_normal_fan_in

HEADS = 4


class AttentionEncoders(Encoders):
    """Encoders by modality, fused by attention; the contract of `resnet.ResNet50`.

    Args: as in `Encoders`.

    Attributes:
      over_modalities: the attention at each of the five strides.
      over_positions: that of the coarsest map.
    """

    def __init__(self, fusion: Fusion, *, width: int, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        super().__init__(fusion, width=width, dtype=dtype, rngs=rngs)
        self.over_modalities = nnx.List(
            [ModalityAttention(channels, dtype=dtype, rngs=rngs) for channels in self.channels]
        )
        self.over_positions = PositionAttention(self.channels[-1], dtype=dtype, rngs=rngs)

    def fused(self, level: int, maps: OfEach, present: Present) -> Images:
        """See `Encoders.fused`."""
        found = self.over_modalities[level](maps, present)
        return self.over_positions(found) if level == len(self.channels) - 1 else found


class PositionAttention(nnx.Module):
    """Attention of each position of a map to all positions, added to the map.

    It has no encoding of positions: the zero padding of the convolutions below tells them, and a
    slice may have another size than the patches of the training.

    Args:
      channels: of the map.
      dtype: compute type; the softmax is in float32.
      rngs: needs the stream `params`.
    """

    def __init__(self, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.size = max(HEADS, channels // 4)

        def projection() -> Conv:
            return Conv(
                channels, self.size, 1, kernel_init=he_normal_fan_in, dtype=dtype, rngs=rngs
            )

        self.query, self.key, self.value = projection(), projection(), projection()
        self.output = Conv(self.size, channels, 1, kernel_init=zeros, dtype=dtype, rngs=rngs)

    def __call__(self, x: Images) -> Images:
        """The map [B, H, W, C] with what each position found at the others."""
        batch, height, width, _ = x.shape

        def heads(projection: Conv) -> jax.Array:
            y = projection(x)
            return y.reshape(batch, height * width, HEADS, self.size // HEADS)

        query, key, value = heads(self.query), heads(self.key), heads(self.value)
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores / jnp.sqrt(self.size // HEADS), axis=-1)
        found = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value)
        return x + self.output(found.reshape(batch, height, width, self.size))
