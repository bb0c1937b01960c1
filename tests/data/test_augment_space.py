"""Rotation and scaling: positions by hand, values by SciPy."""

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from brats_jax.data.augment_space import (
    Affine,
    Positions,
    drawn_affine,
    interpolated,
    nearest,
    positions,
)


def grid(n, size):
    return (np.broadcast_to(a, (n, size, size)) for a in np.indices((size, size)))


def affine(*turns):
    """Of (degrees, factor) pairs."""
    angle, factor = np.deg2rad([t[0] for t in turns]), np.array([t[1] for t in turns])
    return Affine(jnp.asarray(np.cos(angle) / factor), jnp.asarray(np.sin(angle) / factor))


def test_positions_turn_and_magnify_about_the_centre():
    """Of 5 x 5: the pixel right of the centre, (2, 3), from (1, 2) by 90 degrees, (2, 2.5) by 2."""
    found = positions(affine((90, 1), (0, 2), (90, 2)), *grid(3, 5))
    right = np.stack([found.row[:, 2, 3], found.column[:, 2, 3]], axis=1)
    np.testing.assert_allclose(right, [[1, 2], [2, 2.5], [1.5, 2]], atol=1e-6)
    np.testing.assert_allclose(found.row[:, 2, 2], 2, atol=1e-6)


def test_quarter_turns_are_numpys():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((1, 6, 6, 2)), rng.integers(1, 4, (1, 6, 6))
    at = positions(affine((90, 1)), *grid(1, 6))
    got = interpolated(jnp.asarray(x, jnp.float32), at, jnp.zeros((1, 2)))
    np.testing.assert_allclose(got, np.rot90(x, -1, axes=(1, 2)), atol=1e-5)
    np.testing.assert_array_equal(
        nearest(jnp.asarray(labels), at), np.rot90(labels, -1, axes=(1, 2))
    )


def test_values_are_bilinear_and_background_outside():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 9, 9, 2)).astype(np.float32)
    labels = rng.integers(1, 4, (2, 9, 9)).astype(np.uint8)
    outside = np.float32([[-1, -2], [-3, -4]])
    at = positions(affine((25, 0.8), (-10, 1.3)), *grid(2, 9))
    got, moved = interpolated(jnp.asarray(x), at, jnp.asarray(outside)), nearest(labels, at)
    row, column = np.asarray(at.row), np.asarray(at.column)
    inside = (row >= -0.5) & (row < 8.5) & (column >= -0.5) & (column < 8.5)
    assert 0 < inside[0].sum() < 81 and moved.dtype == np.uint8
    for k in range(2):
        places = [row[k], column[k]]
        for c in range(2):
            expected = ndimage.map_coordinates(x[k, :, :, c], places, order=1, mode="nearest")
            expected = np.where(inside[k], expected, outside[k, c])
            np.testing.assert_allclose(got[k, :, :, c], expected, atol=1e-5)
        expected = ndimage.map_coordinates(labels[k], places, order=0, mode="nearest")
        np.testing.assert_array_equal(moved[k], np.where(inside[k], expected, 0))


def test_what_is_not_turned_keeps_its_bits():
    numbers = jnp.asarray([[0.9, 0.3, 0.9, 0.3], [0.1, 1.0, 0.1, 0.5]])
    drawn = drawn_affine(numbers, (-30, 30), (0.5, 2.0), 0.2)
    assert (float(drawn.cosine[0]), float(drawn.sine[0])) == (1, 0)
    np.testing.assert_allclose(drawn.cosine[1] * 1.25, np.cos(np.deg2rad(30)), rtol=1e-6)
    np.testing.assert_allclose(drawn.sine[1] * 1.25, 0.5, rtol=1e-6)
    never = drawn_affine(numbers, None, None, 1.0)
    np.testing.assert_array_equal(never.cosine, 1)
    x = np.random.default_rng(2).standard_normal((2, 8, 8, 3)).astype(np.float32)
    at = positions(never, *grid(2, 8))
    np.testing.assert_array_equal(interpolated(jnp.asarray(x), at, jnp.zeros((2, 3))), x)


def test_half_a_pixel_beyond_the_border_is_still_inside():
    x = jnp.ones((1, 1, 4, 1))
    at = Positions(jnp.zeros((1, 1, 4)), jnp.asarray([[[-0.6, -0.4, 3.4, 3.6]]]))
    np.testing.assert_array_equal(interpolated(x, at, jnp.zeros((1, 1)))[0, 0, :, 0], [0, 1, 1, 0])
