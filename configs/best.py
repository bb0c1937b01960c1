"""Our recommendation for segmentation: what helped on real cases, and what the field agrees on.

    python -m brats_jax.main --config=configs/best.py

docs/results.md, 'The recipe', has a row for each setting that was tried. Volumes are normalised as
a whole: prepare the store with --normalisation=volume. The segmentation starts from random
weights, because pretraining gained nothing on these cases.

Cost: thirty passes over the training slices for each of five folds, as the segmentation of
configs/ssl.py.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """base.py with the recipe."""
    config = base.get_config()
    config.ssl = False
    config.model.slope = 0.01
    config.optim.learning_rate = 1e-3
    config.optim.schedule = "cosine"
    config.pretrain.decoder = "unet"
    config.pretrain.learning_rate = 2e-3
    config.pretrain.augmentation.flip = True
    config.pretrain.augmentation.quarter_turn = True
    config.segment.outputs = "regions"
    for name in ("rotation", "scaling", "blur", "low_resolution", "modality_intensity"):
        config.segment.augmentation[name] = True
    return config
