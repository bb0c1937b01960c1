import runpy
from pathlib import Path

import pytest

from brats_jax.errors import BratsError
from brats_jax.experiments.config import check, parse, pretraining, segmentation

BASE = Path(__file__).parents[2] / "configs" / "base.py"


def config_of(**changes):
    """configs/base.py with changes, model__fusion for model.fusion, as settings."""
    config = runpy.run_path(str(BASE))["get_config"]()
    config.data.store = "STORE"
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return parse(config)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model__fusion": "late"}, "valid values are early, encoders, attention, stem"),
        ({"model__fusion": "stem", "model__fusion_weights": "own"}, "has no effect with"),
        ({"model__fusion": "stem", "encoder_init": "w.safetensors"}, "the encoder of fusion=early"),
        ({"segment__modality_dropout": 1.5}, "give 0 to 1"),
        ({"segment__modality_dropout": 0.5, "segment__inputs": ("flair",)}, "cannot be left out"),
    ],
)  # fmt: skip
def test_fusions_and_dropout_that_cannot_be_are_refused(changes, message):
    with pytest.raises(BratsError, match=message):
        check(config_of(**changes))


def test_the_fusion_reaches_both_stages_and_the_dropout_the_segmentation():
    settings = config_of(
        model__fusion="attention", model__fusion_weights="own", segment__modality_dropout=0.25
    )
    check(settings)
    for task in (pretraining(settings), segmentation(settings)):
        assert (task.fusion_name, task.fusion_weights) == ("attention", "own")
    assert segmentation(settings).fusion.told and not pretraining(settings).fusion.told
