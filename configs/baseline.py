"""The comparison: the same segmentation from random initialisation, without pretraining.

    python -m brats_jax.main --config=configs/baseline.py

Cost: one training of 30 epochs for each of five folds, about 1,000 steps an epoch on the
369 BraTS 2020 patients. Seeds, patches and decoder initialisation are those of ssl.py, so
that the two are paired.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """base.py without the first stage."""
    config = base.get_config()
    config.ssl = False
    return config
