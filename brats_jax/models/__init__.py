"""Networks: arrays in, arrays out; no files and no configuration.

`ops/` has the operations whose fast forms are written for a compiler.
"""

from brats_jax.models.functional import Weights, abstract, apply, shapes, split
from brats_jax.models.ops.rounded_kernels import Kernels, rounded_kernels, with_kernels
from brats_jax.models.reconstruction import DECODERS, ReconstructionModel, TransposedDecoder
from brats_jax.models.resnet import ResNet50
from brats_jax.models.unet import SegmentationModel, UNetDecoder

__all__ = [
    "DECODERS",
    "Kernels",
    "ReconstructionModel",
    "ResNet50",
    "SegmentationModel",
    "TransposedDecoder",
    "UNetDecoder",
    "Weights",
    "abstract",
    "apply",
    "rounded_kernels",
    "shapes",
    "split",
    "with_kernels",
]
