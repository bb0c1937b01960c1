"""The settings of an augmentation are fields of it, of the right type."""

import pytest

from brats_jax.data.augment import Augmentation
from brats_jax.errors import BratsError
from brats_jax.experiments.augmentation_settings import augmentation_of


def test_switches_and_ranges_are_those_of_the_augmentation():
    off = dict.fromkeys(
        ("flip", "quarter_turn", "intensity_scale", "intensity_shift", "gamma"), False
    )
    assert augmentation_of("segment", {**off, "noise": False}) is None
    assert augmentation_of("segment", {}) is None
    found = augmentation_of("segment", {**off, "rotation": True, "rotation_range": [-10, 10]})
    assert found == Augmentation(**off, rotation=True, rotation_range=(-10.0, 10.0))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"elastic": True}, r"config\.segment\.augmentation\.elastic: unknown; valid are flip, "),
        ({"rotation": 3}, r"augmentation\.rotation=3: give true or false"),
        ({"rotation": "yes"}, r"augmentation\.rotation=yes: give true or false"),
        ({"rotation_range": "wide"}, "rotation_range=wide: give two numbers, the lowest and"),
        ({"rotation_range": [30.0]}, "rotation_range=.30.0.: give two numbers"),
        ({"spatial_probability": "x"}, "spatial_probability=x: give a number"),
        (
            {"spatial_probability": 2, "rotation": True},
            r"config\.segment\.augmentation: .* 2 must be",
        ),
        ({"rotation_range": [30, -30], "rotation": True}, r"must be \(low, high\)"),
    ],
)
def test_a_wrong_field_is_one_line(chosen, message):
    with pytest.raises(BratsError, match=message):
        augmentation_of("segment", chosen)


def test_the_pretraining_has_no_labels_to_change_a_lesion_by():
    with pytest.raises(BratsError, match=r"config\.pretrain\.augmentation\.lesion_contrast: "):
        augmentation_of("pretrain", {"lesion_contrast": True})
    assert augmentation_of("pretrain", {"thick_slices": True, "lesion_contrast": False})
