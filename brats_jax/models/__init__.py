"""Networks: arrays in, arrays out; no files and no configuration.

`ops/` has the operations whose fast forms are written for a compiler.
"""

from brats_jax.models.functional import (
    AUXILIARY,
    Weights,
    abstract,
    apply,
    shapes,
    split,
    without_auxiliary,
)
from brats_jax.models.fusion import FUSIONS, Fusion
from brats_jax.models.ops.rounded_kernels import Kernels, rounded_kernels, with_kernels
from brats_jax.models.reconstruction import DECODERS, ReconstructionModel, TransposedDecoder
from brats_jax.models.resnet import ResNet50
from brats_jax.models.unet import (
    DeeplySupervisedModel,
    SegmentationModel,
    Supervised,
    UNetDecoder,
)

__all__ = [
    "AUXILIARY",
    "DECODERS",
    "FUSIONS",
    "DeeplySupervisedModel",
    "Fusion",
    "Kernels",
    "ReconstructionModel",
    "ResNet50",
    "SegmentationModel",
    "Supervised",
    "TransposedDecoder",
    "UNetDecoder",
    "Weights",
    "abstract",
    "apply",
    "rounded_kernels",
    "shapes",
    "split",
    "with_kernels",
    "without_auxiliary",
]
