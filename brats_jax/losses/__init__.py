"""Training losses: `reconstruction` of the pretraining, `segmentation` of the second stage.

Pure functions of arrays; both share the means over the values that count, `means`.
"""

from brats_jax.losses.means import weighted_mean
from brats_jax.losses.reconstruction import (
    BRAIN_LOSSES,
    RECONSTRUCTION_LOSSES,
    l1,
    l1_ssim,
    mse,
    ssim_of_windows,
)
from brats_jax.losses.segmentation import (
    SEGMENTATION_LOSSES,
    SMOOTH,
    cross_entropy,
    deeply_supervised,
    dice_ce,
    dice_focal,
    dice_loss,
    focal,
    get_segmentation_loss,
)

__all__ = [
    "BRAIN_LOSSES",
    "RECONSTRUCTION_LOSSES",
    "SEGMENTATION_LOSSES",
    "SMOOTH",
    "cross_entropy",
    "deeply_supervised",
    "dice_ce",
    "dice_focal",
    "dice_loss",
    "focal",
    "get_segmentation_loss",
    "l1",
    "l1_ssim",
    "mse",
    "ssim_of_windows",
    "weighted_mean",
]
