"""configs/best.py for cases that may lack modalities: one network for all 15 subsets of the four.

    python -m brats_jax.main --config=configs/missing.py

Half of the training examples lack a random part of their modalities, and patients of the store who
lack some train with those that they have; docs/modalities.md describes it. For about twenty cases
take the sizes of configs/small.py as well:

    python -m brats_jax.main --config=configs/missing.py --config.model.width=16 \
        --config.train.batch_size=4 --config.segment.epochs=4 --config.segment.steps_per_epoch=1400

Each modality has a stem of its own, which had the highest mean Dice of three fusions on 8 real
patients (docs/results.md, 'Fusion and missing modalities'); --config.model.fusion names other ways.

Cost: 1.03 to 1.12 times that of configs/best.py, thirty passes over the training slices for each
of five folds.
"""

from ml_collections import ConfigDict

from configs import best

NORMALISATION = best.NORMALISATION


def get_config() -> ConfigDict:
    """best.py with modality dropout and a stem for each modality."""
    config = best.get_config()
    config.model.fusion = "stem"
    config.segment.modality_dropout = 0.5
    return config
