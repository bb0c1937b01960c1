"""configs/best.py with a narrow network, for some twenty cases: the base of 'small'.

    python -m brats_jax.main --config=configs/small.py

trains the five folds of a segmentation; launch/small.sh adds what else the ready model has, and
makes it. Cost: fifteen minutes on one CPU core for a synthesis and a segmentation of one fold.
"""

from ml_collections import ConfigDict

from configs import best

NORMALISATION = best.NORMALISATION


def get_config() -> ConfigDict:
    """best.py with a narrow network and small batches."""
    config = best.get_config()
    config.model.width = 16
    config.train.batch_size = 4  # in a short training, more steps gain more than larger batches
    config.pretrain.epochs = 4
    config.pretrain.steps_per_epoch = 700
    config.segment.epochs = 4
    config.segment.steps_per_epoch = 1400
    config.evaluation.panels = 2
    return config
