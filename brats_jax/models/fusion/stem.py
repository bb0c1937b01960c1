"""A stem for each modality, attention over modalities behind it, and one encoder.

The stems' maps are fused before the encoder's stages, which therefore cost as much as with early
fusion. Each stem, with its BatchNorm, sees one modality alone, and the attention leaves out those
that are missing.

In training stand-ins take the places of missing images, as in `encoders` with own weights.

Reference: Yang et al. 2024 (DeMoSeg), https://arxiv.org/abs/2408.08708, which maps each modality by
convolutions of its own before one U-Net and lets their features attend to each other; the softmax
over branches is that of Li et al. 2019 (selective kernels), https://arxiv.org/abs/1903.06586
"""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from brats_jax.models.fusion.base import (
    Fusion,
    Images,
    ModalityAttention,
    by_modality,
)
from brats_jax.models.layers import BatchNorm, Conv
from brats_jax.models.resnet import Maps, channels_of, made_stages, maps_above


class Stem(nnx.Module):
    """7x7 convolution with stride 2, batch normalisation and ReLU."""

    def __init__(self, in_channels: int, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.conv1 = Conv(in_channels, width, 7, stride=2, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(width, dtype=dtype)

    def __call__(self, x: Images, *, train: bool) -> Images:
        """The stem's map of one modality."""
        return self.bn1(self.conv1(x), relu=True, train=train)


class Stems(nnx.Module):
    """Stems by modality and one encoder above them; the contract of `resnet.ResNet50`.

    Args:
      fusion: the modalities of the input.
      width, dtype, rngs: see `ResNet50`.

    Attributes:
      stems: by modality.
      over_modalities: the attention over their maps.
      layer1, layer2, layer3, layer4: the stages, as in `ResNet50`.
      channels: channels of the five maps.
    """

    def __init__(self, fusion: Fusion, *, width: int, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.fusion, self.channels = fusion, channels_of(width)
        self.stems = nnx.Dict(
            {name: Stem(fusion.slices, width, dtype=dtype, rngs=rngs) for name in fusion.modalities}
        )
        self.over_modalities = ModalityAttention(width, dtype=dtype, rngs=rngs)
        self.layer1, self.layer2, self.layer3, self.layer4 = made_stages(width, dtype, rngs)

    def __call__(self, x: Images, *, train: bool) -> Maps:
        """The five maps, of which the finest is the fused one."""
        images, present = self.fusion.split(x)
        stems = [self.stems[name] for name in self.fusion.modalities]
        found = by_modality(stems, images, present, train=train)
        c0 = self.over_modalities(jnp.stack(found, axis=1), present)
        return maps_above(self, c0, train=train)
