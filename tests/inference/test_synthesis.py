"""Synthetic images in place of missing ones."""

from types import SimpleNamespace

import numpy as np
import prediction_examples as examples
import pytest

from brats_jax.inference.synthesis import filled_in


@pytest.mark.parametrize("how", ["volume", "slice"])
def test_a_predicted_modality_is_0_where_a_real_one_must_be(how):
    """By volume outside of the brain, by slice in slices without brain."""
    intensities = np.zeros((2, 2, 2, 4), np.float32)
    intensities[1, 0, 0, 0] = 5  # the only voxel of the brain
    images = np.full((2, 2, 2, 4), 7, np.float16)
    predicted = np.full((2, 2, 2), 0.5, np.float32)
    scan = SimpleNamespace(images=intensities, synthetic=("flair",))
    found = filled_in(scan, images, examples.synthesiser(predicted), how)
    assert (found[..., :3] == 7).all() and (images == 7).all() and found.dtype == np.float16
    expected = np.zeros((2, 2, 2))
    expected[1] = 0.5
    if how == "volume":
        expected[1] = [[0.5, 0], [0, 0]]
    np.testing.assert_array_equal(found[..., 3], expected)
