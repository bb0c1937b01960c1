"""Both stages in minutes: a narrow network, short epochs, one fold.

    python -m brats_jax.main --config=configs/demo.py --workdir=demo/ssl \
        --config.data.store=demo/store

Cost: about six minutes on two CPU cores. Made for the phantom; on real cases it tests the
installation, not the method.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """base.py with smaller values."""
    config = base.get_config()
    config.folds = (0,)
    config.model.width = 16
    config.train.batch_size = 4  # in a short training, more steps gain more than larger batches
    config.optim.learning_rate = 2e-3
    config.optim.decay_every_epochs = 1
    config.optim.decay_factor = 0.4
    config.pretrain.epochs = 4
    config.pretrain.steps_per_epoch = 400
    # After so few steps the predicted image is recognisable with skip connections; with the paper's
    # decoder it shows little more than the tumour.
    config.pretrain.decoder = "unet"
    config.pretrain.slices = "tumour"  # fewer slices to validate on
    config.segment.epochs = 4
    config.segment.steps_per_epoch = 200
    for name in ("intensity_scale", "intensity_shift", "gamma", "noise"):
        config.segment.augmentation[name] = False
    return config
