"""Numbers and labels of one segmented scan."""

import types

import numpy as np
import pytest

from brats_jax.errors import BratsError
from brats_jax.inference.results import (
    Segmented,
    label_names,
    label_values,
    note_on_air,
    share_in_air,
)


def segmented(labels: np.ndarray) -> Segmented:
    images = np.zeros((*labels.shape, 4), np.float32)
    images[0, 0, :, 2] = 1  # T2 alone: no air
    scan = types.SimpleNamespace(images=images, to_input=lambda volume, nearest: volume)
    return Segmented(scan, labels, None, None, {})


LABELS = np.array([[[1, 2, 0], [3, 3, 0]]], np.uint8)


def test_the_share_of_the_tumour_in_air_is_counted_in_voxels():
    images = segmented(LABELS).scan.images
    assert share_in_air(LABELS, images) == 0.5
    assert share_in_air(np.zeros_like(LABELS), images) == 0


def test_a_tumour_in_air_gets_a_note():
    images = segmented(LABELS).scan.images
    assert note_on_air(LABELS, images).startswith("50% of this tumour lies in air, where every")
    removed = note_on_air(LABELS, images, removed=True)
    assert removed.endswith("and was removed: check the rest of it before you use it")
    assert note_on_air(LABELS, 0 * images, removed=True).endswith("is 0, and was removed")
    assert removed.startswith("50% of the predicted tumour lay in air, where every modality is 0")
    assert note_on_air(np.zeros_like(LABELS), images) == note_on_air(LABELS, images + 1) == ""


def test_et_has_the_value_that_was_asked_for():
    np.testing.assert_array_equal(label_values(segmented(LABELS), 3), LABELS)
    assert np.unique(label_values(segmented(LABELS), 4)).tolist() == [0, 1, 2, 4]
    assert label_names(4) == {"0": "background", "1": "NCR/NET", "2": "ED", "4": "ET"}
    with pytest.raises(BratsError, match="et_label=5"):
        label_values(segmented(LABELS), 5)
