"""The settings of the runs in data.tar.xz: both stages, two folds, in a few seconds."""

from ml_collections import ConfigDict

from brats_jax.models import resnet
from configs import base


def get_config() -> ConfigDict:
    """Returns base.py with a narrow, shallow network and short epochs."""
    resnet.BLOCKS = (1, 1, 1, 1)  # one block a stage compiles faster
    config = base.get_config()
    config.folds = (0, 1)
    config.data.num_folds = 2
    config.data.test_fraction = 0.25
    config.data.patch_size = 32
    config.model.width = 4
    config.optim.learning_rate = 2e-3
    config.train.batch_size = 4
    config.train.validation_batch_size = 8
    config.train.save_every_steps = 3
    config.train.log_every_steps = 2
    config.evaluation.batch_size = 8
    config.evaluation.panels = 0
    for stage in ("pretrain", "segment"):
        config[stage].epochs = 2
        config[stage].steps_per_epoch = 8
    return config
