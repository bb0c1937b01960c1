"""Cleaning of labels, and volumes."""

import numpy as np
import pytest

from brats_jax.inference.postprocess import (
    Cleaning,
    relabel_small_et,
    remove_in_air,
    remove_small_components,
    tumour_in_air,
    volumes,
)


@pytest.fixture
def labels():
    """A lesion of 12 voxels (8 ED, 2 NCR, 2 ET), one of 3 and one of 1 that touches by a corner."""
    made = np.zeros((4, 10, 10), np.uint8)
    made[0, 1:3, 1:5] = 2
    made[1, 1, 1:3] = 1
    made[1, 2, 1:3] = 3
    made[3, 7, 5:8] = 2
    made[2, 6, 4] = 3  # corner to corner with the lesion of 3
    return made


def test_small_components_of_any_class_are_removed(labels):
    np.testing.assert_array_equal(remove_small_components(labels, 4), labels)  # 3 + 1 touch
    cleaned = remove_small_components(labels, 5)
    assert (cleaned != 0).sum() == 12 and not cleaned[2:].any()
    np.testing.assert_array_equal(cleaned[:2], labels[:2])
    assert not remove_small_components(labels, 13).any()
    assert (labels != 0).sum() == 16  # the argument is unchanged
    assert not remove_small_components(np.zeros((2, 3, 3), np.uint8), 5).any()


def test_a_very_small_et_becomes_ncr(labels):
    changed = relabel_small_et(labels, 4)
    assert np.bincount(changed.ravel()).tolist() == [384, 5, 11]
    np.testing.assert_array_equal(relabel_small_et(labels, 3), labels)  # 3 are not fewer than 3


def test_tumour_in_air_is_removed_before_the_sizes_are_applied(labels):
    images = np.ones((*labels.shape, 2))
    images[1] = 0  # 2 NCR and 2 ET of the large lesion
    images[3, ..., 0] = 0  # one modality alone is no air
    air = tumour_in_air(labels, images)
    assert air.sum() == 4 and air[1, 1:3, 1:3].all()
    cleaned = remove_in_air(labels, air)
    assert (cleaned != 0).sum() == 12 and not cleaned[1].any() and (labels != 0).sum() == 16
    assert remove_in_air(labels, np.zeros_like(air)) is labels
    # 8 voxels of ED are left of the large lesion: fewer than 9, where there were 12.
    both = Cleaning(min_component_mm3=9, clear_air=True)
    assert not both.apply(labels, 1.0, air).any()
    assert both.describe() == "tumour in air is removed, components below 9 mm3 are removed"
    alone = Cleaning(clear_air=True, fitted=("clear_air",))
    np.testing.assert_array_equal(alone.apply(labels, 1.0, air), cleaned)
    assert alone.describe() == "tumour in air is removed"
    found = volumes(cleaned, labels[None], 500.0, alone, air)
    assert found["WT"] == (6.0, 6.0, 6.0)  # the views are cleaned too


def test_thresholds_are_in_mm3(labels):
    assert Cleaning().apply(labels, 1.0) is labels
    kept = Cleaning(min_component_mm3=5).apply(labels, 2.0)  # 4 voxels of 2 mm3
    np.testing.assert_array_equal(kept, labels)
    assert (Cleaning(min_component_mm3=5).apply(labels, 1.0) != 0).sum() == 12


@pytest.mark.parametrize(
    "sizes, note",
    [
        ({}, ""),
        ({"min_component_mm3": 6}, ""),
        (
            {"min_component_mm3": 30},
            "nothing of 0.032 ml of WT (components below 30 mm3 are removed)",
        ),
        ({"min_et_mm3": 7}, "nothing of 0.006 ml of ET (ET below 7 mm3 becomes"),
    ],
)
def test_a_note_says_what_the_cleaning_left_nothing_of(labels, sizes, note):
    """Of 16 voxels of 2 mm3, 3 of them ET."""
    cleaning = Cleaning(**sizes)
    found = cleaning.emptied(labels, cleaning.apply(labels, 2.0), 2.0)
    assert note in found and bool(note) == bool(found)
    assert cleaning.emptied(0 * labels, 0 * labels, 2.0) == ""


def test_the_range_of_a_volume_includes_every_prediction(labels):
    fewer = labels.copy()
    fewer[labels == 3] = 0
    found = volumes(labels, np.stack([labels, fewer]), 500.0, Cleaning())
    assert found["ET"] == (1.5, 0.0, 1.5) and found["WT"] == (8.0, 6.5, 8.0)
    assert found["TC"].ml == 2.5 and found["ED"].ml == 5.5 and found["NCR/NET"].ml == 1.0
    # The ensemble's own volume is in the range, even where it exceeds all views'.
    assert volumes(labels, fewer[None], 500.0, Cleaning())["ET"] == (1.5, 0.0, 1.5)
    alone = volumes(labels, np.empty((0, *labels.shape), np.uint8), 500.0, Cleaning())
    assert alone["ET"] == (1.5, None, None)
    # The views are cleaned too.
    cleaned = volumes(labels, labels[None], 1.0, Cleaning(min_component_mm3=5))
    assert cleaned["WT"].low_ml == pytest.approx(0.012)
