import numpy as np

from brats_jax.data.brain import brain_mask


def test_the_brain_of_a_patch_differs_from_the_background_of_its_slice():
    slices = np.full((1, 4, 4, 2), -1.0)
    slices[0, 1:3, 1:3, 1] = 2
    expected = np.zeros((1, 4, 4), bool)
    expected[0, 1:3, 1:3] = True
    np.testing.assert_array_equal(brain_mask(slices), expected)
    patch, background = slices[:, 1:, 1:], np.array([[-1.0, -1.0]])
    np.testing.assert_array_equal(brain_mask(patch, background), expected[:, 1:, 1:])
    # The corner of this patch is brain.
    assert not np.array_equal(brain_mask(patch), expected[:, 1:, 1:])
