"""Some twenty real cases: which pretext helps, and with how many labels.

    python -m brats_jax.grid --config=configs/real.py --workdir=real/grid --losses=dice_ce \
        --label_patients=3 --pretexts=cross_modality+unet,shuffled+unet

`launch/real.sh STORE` runs all of it. Cost: three minutes for a pretraining and three for a
segmentation on two idle CPU cores. The network is narrow and the trainings are short: enough to
compare pretexts with each other, not to reach published numbers.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """base.py with a narrow network, short epochs, and a large test set."""
    config = base.get_config()
    config.folds = (0,)
    config.model.width = 16
    # Of 17 patients: 7 to test on, one to validate the pretext on, 9 to train on.
    config.data.test_fraction = 0.41
    config.data.num_folds = 10
    config.train.batch_size = 4  # in a short training, more steps gain more than larger batches
    config.optim.learning_rate = 1e-3
    config.optim.schedule = "cosine"
    config.pretrain.learning_rate = 2e-3
    config.pretrain.epochs = 4
    config.pretrain.steps_per_epoch = 700
    config.pretrain.augmentation.flip = True
    config.pretrain.augmentation.quarter_turn = True
    config.segment.epochs = 2
    config.segment.steps_per_epoch = 700
    config.evaluation.panels = 2
    return config
