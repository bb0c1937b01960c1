"""Blur by SciPy, strips by NumPy, low resolution and contrast by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from brats_jax.data import augment_appearance
from brats_jax.data.augment_appearance import (
    MEAN_BY_SD,
    SHADING_TERMS,
    blurred,
    brightened,
    curved,
    shaded,
    thick,
)

coarsened = jax.jit(augment_appearance.coarsened)

IMAGES = np.random.default_rng(0).standard_normal((2, 12, 10, 2)).astype(np.float32)


def test_blur_is_scipys_and_leaves_other_channels_as_they_are():
    sigma = jnp.asarray([[0.5, 0.0], [1.0, 0.7]])
    got = np.asarray(blurred(jnp.asarray(IMAGES), sigma, 1.0))
    np.testing.assert_array_equal(got[0, ..., 1], IMAGES[0, ..., 1])
    for k, c in ((0, 0), (1, 0), (1, 1)):
        expected = ndimage.gaussian_filter(
            IMAGES[k, ..., c], float(sigma[k, c]), mode="nearest", radius=3
        )
        np.testing.assert_allclose(got[k, ..., c], expected, atol=1e-5)


def test_half_the_resolution_keeps_every_other_pixel_and_joins_them_by_lines():
    """Of 8 pixels 4 are kept: 0.5, 2.5, 4.5 and 6.5 rounded to even are 0, 2, 4 and 6."""
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None], (8, 8, 1))[None]
    got = coarsened(jnp.asarray(ramp), jnp.asarray([0.5]), jnp.asarray([[True]]))
    np.testing.assert_allclose(got[0, :, 3, 0], [0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6])
    across = coarsened(jnp.asarray(ramp.swapaxes(1, 2)), jnp.asarray([0.5]), jnp.asarray([[True]]))
    np.testing.assert_allclose(across, np.asarray(got).swapaxes(1, 2))


def test_low_resolution_concerns_the_chosen_channels_alone():
    chosen = jnp.asarray([[True, False], [False, False]])
    got = np.asarray(coarsened(jnp.asarray(IMAGES), jnp.asarray([0.6, 0.6]), chosen))
    assert (got[0, ..., 0] != IMAGES[0, ..., 0]).any()
    np.testing.assert_array_equal(got[0, ..., 1], IMAGES[0, ..., 1])
    np.testing.assert_array_equal(got[1], IMAGES[1])
    same = coarsened(jnp.asarray(IMAGES), jnp.ones(2), jnp.ones((2, 2), bool))
    np.testing.assert_allclose(same, IMAGES, atol=1e-6)


def test_brightness_multiplies_and_contrast_stays_within_the_range():
    factor = jnp.asarray([[1.25, 1.0], [0.75, 1.0]])
    contrast = jnp.asarray([[1.0, 1.25], [0.8, 1.0]])
    got = np.asarray(brightened(jnp.asarray(IMAGES), factor, contrast))
    np.testing.assert_allclose(got[0, ..., 0], 1.25 * IMAGES[0, ..., 0])
    np.testing.assert_array_equal(got[1, ..., 1], IMAGES[1, ..., 1])
    for k, c in ((0, 1), (1, 0)):
        x = IMAGES[k, ..., c] * float(factor[k, c])
        wider = x.mean() + float(contrast[k, c]) * (x - x.mean())
        np.testing.assert_allclose(got[k, ..., c], wider.clip(x.min(), x.max()), atol=1e-5)
    assert got[0, ..., 1].max() == IMAGES[0, ..., 1].max()


def test_a_curve_is_a_power_with_the_mean_and_deviation_of_before():
    images = IMAGES.copy()
    images[1, ..., 1] = 3.0
    power = np.array([[0.4, 1.0], [2.5, 2.0]], np.float32)
    got = np.asarray(curved(jnp.asarray(images), jnp.asarray(power)))
    np.testing.assert_array_equal(got[0, ..., 1], images[0, ..., 1])
    np.testing.assert_array_equal(got[1, ..., 1], images[1, ..., 1])  # nothing to curve
    for k in (0, 1):
        x = images[k, ..., 0].astype(np.float64)
        v = ((x - x.min()) / (x.max() - x.min())) ** power[k, 0]
        expected = x.mean() + x.std() * (v - v.mean()) / v.std()
        np.testing.assert_allclose(got[k, ..., 0], expected, atol=1e-4)
        # The brightest pixel stands out less after a power below 1, more after one above.
        assert (got[k, ..., 0].max() > x.max()) == (power[k, 0] > 1)


def test_a_bias_field_multiplies_the_intensities_by_exp_of_a_polynomial_and_keeps_air():
    """By hand at corners and centre: exp(0.1 u + 0.2 v^2) and exp(-0.3 u v^2)."""
    coefficients = np.zeros((2, SHADING_TERMS, 2), np.float32)
    coefficients[0, [0, 4], 1] = 0.1, 0.2  # order: u, v, uu, uv, vv, uuu, uuv, uvv, vvv
    coefficients[1, 7, 0] = -0.3
    images = np.concatenate([IMAGES[:, :11, :9], IMAGES[:, :11, :9]], axis=2)[:, :, :11]
    images[:, 3, 4] = (-2, -1)
    air = jnp.asarray([[-2.0, -1.0]] * 2)
    got = np.asarray(shaded(jnp.asarray(images), jnp.asarray(coefficients), air))
    np.testing.assert_array_equal(got[0, ..., 0], images[0, ..., 0])
    np.testing.assert_array_equal(got[1, ..., 1], images[1, ..., 1])
    np.testing.assert_array_equal(got[:, 3, 4], images[:, 3, 4])
    factor = (got + MEAN_BY_SD) / (images + MEAN_BY_SD)
    at = ((0, 0), (0, 10), (10, 0), (5, 5), (10, 5))
    expected = np.exp([[0.1, 0.1, 0.3, 0.0, 0.1], [0.3, 0.3, -0.3, 0.0, 0.0]])
    for image, channel in ((0, 1), (1, 0)):
        found = [factor[image, row, column, channel] for row, column in at]
        np.testing.assert_allclose(found, expected[image], rtol=1e-5)


def test_thick_slices_are_means_of_strips_joined_by_lines_along_one_side():
    """Of a ramp 0 to 7 and strips of two pixels the means are 0.5, 2.5, 4.5 and 6.5."""
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None], (8, 8, 2))[None]
    along = jnp.asarray([[False, True]])
    got = np.asarray(thick(jnp.asarray(ramp), jnp.full((1, 2), 2.0), jnp.zeros((1, 2)), along))
    by_hand = np.array([0.5, 1, 2, 3, 4, 5, 6, 6.5])[:, None].repeat(8, 1)
    np.testing.assert_allclose(got[0, ..., 0], by_hand, atol=1e-6)
    np.testing.assert_allclose(got[0, ..., 1], ramp[0, ..., 1], atol=1e-6)  # along the strips


def test_thick_slices_of_any_width_and_beginning_are_those_of_numpy():
    thickness = np.array([[2.5, 1.0], [3.7, 5.0]])
    phase, across = np.array([[0.3, 0.9], [0.0, 0.8]]), np.array([[True, True], [False, True]])
    given = (thickness, phase, across)
    got = np.asarray(thick(jnp.asarray(IMAGES), *map(jnp.asarray, given)))
    np.testing.assert_array_equal(got[0, ..., 1], IMAGES[0, ..., 1])  # 1: as it is
    for k, c in ((0, 0), (1, 0), (1, 1)):
        lines = IMAGES[k, ..., c] if across[k, c] else IMAGES[k, ..., c].T
        place = (np.arange(lines.shape[1]) + 0.5) / thickness[k, c] + phase[k, c]
        strips = np.unique(np.floor(place))
        means = np.stack([lines[:, np.floor(place) == one].mean(1) for one in strips])
        lines = np.stack([np.interp(place, strips + 0.5, values) for values in means.T])
        expected = lines if across[k, c] else lines.T
        np.testing.assert_allclose(got[k, ..., c], expected, atol=1e-5)
