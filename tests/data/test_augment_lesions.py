"""The contrast of a lesion to the brain, by hand."""

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from brats_jax.data.augment_lesions import PARTS, contrasted

AIR = np.full((1, 2), -3.0, np.float32)


def example():
    """Brain of 1 and 2 in two channels, NCR/NET, ED and ET of 5, 2 and 9 more, air in a corner."""
    labels = np.zeros((1, 24, 20), np.int32)
    for label, column in zip(PARTS, (2, 8, 14), strict=True):
        labels[0, 8:14, column : column + 4] = label
    extra = np.array([0, 5, 2, 9], np.float32)[labels]
    images = np.stack([extra + 1, extra + 2], axis=-1)
    images[0, :3, :3] = AIR[0]
    return images, labels


def change(factors, images=None, labels=None, air=AIR):
    given, drawn = example()
    images = given if images is None else images
    labels = drawn if labels is None else labels
    got = contrasted(*map(jnp.asarray, (images, labels, np.float32(factors)[None], air)))
    return np.asarray(got) - images


def test_a_part_moves_to_another_distance_from_the_brain_with_a_soft_border():
    moved = change([[1, 0], [0.5, 1], [1, 1]])
    # ED in the first channel from 2 above the brain to 1, NCR/NET in the second from 5 to 0.
    _, labels = example()
    for channel, label, by in ((0, 2, -1.0), (1, 1, -5.0)):
        mask = (labels[0] == label).astype(np.float64)
        expected = by * ndimage.gaussian_filter(mask, 1.0, radius=3, mode="nearest")
        np.testing.assert_allclose(moved[0, ..., channel], expected, atol=1e-4)
    assert moved[0, 10:12, 10, 0].max() < -0.9  # the middle of the part


def test_below_zero_what_was_bright_is_dark_and_further_slices_change_alike():
    images, _ = example()
    three = np.concatenate([images, images + 1, images * 0], axis=-1)
    factors = [[1, 1], [1, 1], [-1, 2]]
    moved = change(factors, three, air=np.tile(AIR, 3))
    assert moved[0, 11, 16, 0] < -16 and moved[0, 11, 16, 1] > 8  # -2 and +1 times 9
    for part in np.split(moved, 3, axis=-1):
        np.testing.assert_allclose(part, change(factors), atol=1e-5)


def test_air_is_no_brain_and_without_a_part_or_brain_nothing_changes():
    images, labels = example()
    factors = np.full((3, 2), 0.5)
    np.testing.assert_array_equal(change(np.ones((3, 2))), 0 * images)
    np.testing.assert_array_equal(change(factors, labels=0 * labels), 0 * images)
    np.testing.assert_array_equal(change(factors, labels=0 * labels + 2), 0 * images)
    everything_is_air = np.where((labels > 0)[..., None], images, AIR)
    np.testing.assert_array_equal(change(factors, everything_is_air), 0 * images)
