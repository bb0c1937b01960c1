"""An encoder for each modality; their maps at each stride are averaged over those present.

    c_k = mean over present m of encoder_m(x_m)_k,   k = 0 to 4

`own` weights are HeMIS's. With `shared` weights one encoder reads all modalities, folded into the
batch, and learns which one it reads: a bias for each modality is added to its stem's map.

In training stand-ins take the places of missing images, so that BatchNorm's statistics are those of
real images (see `base.stand_ins_of_patient`). If a batch has a modality in no example, the encoder
of that modality keeps its running statistics.

Reference: Havaei et al. 2016 (HeMIS), https://arxiv.org/abs/1607.05194, which averages after one
encoder by modality, and Dorent et al. 2019 (U-HVED), https://arxiv.org/abs/1907.11150, which fuses
at every scale of a U-Net. The variance of HeMIS, which is 0 with one modality, is left out.
"""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from brats_jax.models.fusion.base import (
    Fusion,
    Images,
    OfEach,
    Present,
    by_modality,
    mean_of_present,
    stand_ins_of_patient,
)
from brats_jax.models.layers import Bias
from brats_jax.models.ops import groups
from brats_jax.models.resnet import Maps, ResNet50


class Encoders(nnx.Module):
    """Encoders by modality and the mean of their maps; the contract of `resnet.ResNet50`.

    Args:
      fusion: the modalities of the input.
      width, dtype, rngs: see `ResNet50`.

    Attributes:
      shared, identity: with shared weights the encoder, and a bias by modality.
      own: with own weights the encoders by modality.
      channels: channels of the five maps.
    """

    def __init__(self, fusion: Fusion, *, width: int, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.fusion = fusion

        def encoder() -> ResNet50:
            return ResNet50(fusion.slices, width=width, dtype=dtype, rngs=rngs)

        if fusion.weights == "shared":
            self.shared = encoder()
            self.identity = nnx.Dict({name: Bias(width) for name in fusion.modalities})
            self.channels = self.shared.channels
        else:
            self.own = nnx.Dict({name: encoder() for name in fusion.modalities})
            self.channels = self.own[fusion.modalities[0]].channels

    def __call__(self, x: Images, *, train: bool) -> Maps:
        """The five fused maps."""
        images, present = self.fusion.split(x)
        of_each = self._of_shared if self.fusion.weights == "shared" else self._of_own
        maps = of_each(images, present, train)
        c0, c1, c2, c3, c4 = (self.fused(k, y, present) for k, y in enumerate(maps))
        return c0, c1, c2, c3, c4

    def fused(self, level: int, maps: OfEach, present: Present) -> Images:
        """The maps of all modalities at one of the five strides as one map."""
        return mean_of_present(maps, present)

    def _of_shared(self, images: OfEach, present: Present, train: bool) -> list[OfEach]:
        if train:
            images = stand_ins_of_patient(images, present)
        batch, count = images.shape[:2]
        # A stand-in has the bias of the modality whose place it takes: its map does not count.
        shift = jnp.stack([self.identity[name].bias[...] for name in self.fusion.modalities])
        shift = jnp.tile(shift, (batch, 1))[:, None, None, :]
        folded = images.reshape(batch * count, *images.shape[2:])
        # A group of BatchNorm is of patches: it has all of their modalities.
        with groups.normalised_over(groups.current().of_each(count)):
            maps = self.shared(folded, shift, train=train)
        return [y.reshape(batch, count, *y.shape[1:]) for y in maps]

    def _of_own(self, images: OfEach, present: Present, train: bool) -> list[OfEach]:
        encoders = [self.own[name] for name in self.fusion.modalities]
        found = by_modality(encoders, images, present, train=train)
        return [jnp.stack(maps, axis=1) for maps in zip(*found, strict=True)]
