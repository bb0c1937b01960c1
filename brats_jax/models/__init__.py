"""Networks: arrays in, arrays out; no files and no configuration.

`ops/` has the operations whose fast forms are written for a compiler.
"""

from brats_jax.models.functional import (
    Kernels,
    Weights,
    apply,
    count_parameters,
    rounded_kernels,
    split,
    with_kernels,
)
from brats_jax.models.reconstruction import ReconstructionModel, TransposedDecoder
from brats_jax.models.resnet import ResNet50
from brats_jax.models.unet import SegmentationModel, UNetDecoder

__all__ = [
    "Kernels",
    "ReconstructionModel",
    "ResNet50",
    "SegmentationModel",
    "TransposedDecoder",
    "UNetDecoder",
    "Weights",
    "apply",
    "count_parameters",
    "rounded_kernels",
    "split",
    "with_kernels",
]
