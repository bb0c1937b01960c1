"""A whole grid in a quarter of an hour: narrow network, short epochs, two folds.

    python -m brats_jax.grid --config=configs/grid_demo.py --workdir=grid_demo/grid \
        --config.data.store=grid_demo/store

Cost: about a quarter of an hour on two CPU cores for its 14 cells, on the phantom that
launch/grid_demo.sh prepares: 24 patients of 32 slices of 96 x 96 pixels. It tests the
installation, not the method.
"""

from ml_collections import ConfigDict

from configs import demo


def get_config() -> ConfigDict:
    """demo.py with smaller patches and two folds of three."""
    config = demo.get_config()
    config.folds = (0, 1)
    config.data.num_folds = 3
    config.data.test_fraction = 0.25
    config.data.patch_size = 64
    config.train.validation_batch_size = 8
    config.pretrain.decoder = "transposed"
    config.pretrain.epochs = 2
    config.pretrain.steps_per_epoch = 75
    config.segment.epochs = 4
    config.segment.steps_per_epoch = 60
    config.evaluation.slices = "all"
    config.evaluation.batch_size = 8
    return config
