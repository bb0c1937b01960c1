"""Network definitions: arrays in, arrays out; no files, no configuration."""

from brats_jax.models.functional import Weights, apply, count_parameters, split
from brats_jax.models.reconstruction import ReconstructionModel, TransposedDecoder
from brats_jax.models.resnet import ResNet50
from brats_jax.models.unet import SegmentationModel, UNetDecoder

__all__ = [
    "ReconstructionModel",
    "ResNet50",
    "SegmentationModel",
    "TransposedDecoder",
    "UNetDecoder",
    "Weights",
    "apply",
    "count_parameters",
    "split",
]
