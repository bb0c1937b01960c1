"""Early fusion: the modalities are the channels of one encoder's input. The paper's, the default.

The stem's kernel has a slice for each modality, so the first convolution adds them up. The channels
of presence, if the input has them, are further channels of the same convolution.

Reference: Havaei et al. 2017, https://arxiv.org/abs/1505.03540
"""

from flax import nnx
from jax.typing import DTypeLike

from brats_jax.models.fusion.base import Fusion
from brats_jax.models.resnet import ResNet50


def early(fusion: Fusion, *, width: int, dtype: DTypeLike, rngs: nnx.Rngs) -> ResNet50:
    """The encoder of the concatenated modalities."""
    count = len(fusion.modalities)
    channels = count * fusion.slices + count * fusion.with_presence
    return ResNet50(channels, width=width, dtype=dtype, rngs=rngs)
