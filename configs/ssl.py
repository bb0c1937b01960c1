"""The method: FLAIR from T1 and T1Gd without labels, then segmentation from all four modalities.

    python -m brats_jax.main --config=configs/ssl.py
    python -m brats_jax.main --config=configs/ssl.py --config.loss=dice_focal

Cost: two trainings of 30 epochs for each of five folds. On the 369 BraTS 2020 patients that
is about 2,400 (pretrain, all slices) and 1,000 (segment, tumour slices) steps an epoch.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """The settings of base.py."""
    return base.get_config()
