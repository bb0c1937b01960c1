"""The normalisation inside an exported program is the one of the store, to the bit."""

import jax
import numpy as np
import pytest

from brats_jax.data import normalise, normalise_jax

SHAPE = (5, 12, 17, 4)  # 204 pixels: the percentile lies between two of them


def cases():
    rng = np.random.default_rng(0)
    head = rng.random((*SHAPE[:3], 1)) < 0.6
    raw = (rng.gamma(2.0, 200.0, SHAPE) * head).astype(np.float32)
    yield "head", raw
    yield "whole numbers", np.round(raw / 50)
    yield "below zero", raw - 300 * head.astype(np.float32)
    yield "far from zero", raw + np.float32(1e6)
    yield "faint", raw * np.float32(1e-20)
    mixed = raw.copy()
    mixed[0] = 0  # an empty slice
    mixed[1, ..., 2] = 7  # a constant modality
    mixed[2] = 0
    mixed[2, 3, 4] = 900  # one pixel
    mixed[3, ..., 1] = np.where(head[3, ..., 0], 5, 0)  # two values
    mixed[..., 3] = np.where(head[..., 0], 5, 0)  # constant in the brain of the volume
    yield "unusual slices", mixed
    yield "nothing", np.zeros(SHAPE, np.float32)
    yield "two zeros", np.where(head, raw, np.float32(-0.0))


@pytest.mark.parametrize("how", normalise.NORMALISATIONS)
def test_normalised_images_equal_the_store_to_the_bit(how):
    with jax.enable_x64(True):
        compiled = jax.jit(lambda x: normalise_jax.normalise(x, how))
        for name, images in cases():
            expected = normalise.normalise(images, how)
            found = np.asarray(compiled(images))
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected.astype(np.float32), err_msg=name)


def test_values_are_rounded_to_half_precision_as_by_numpy():
    rng = np.random.default_rng(1)
    every = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    middle = (every[1:] + every[:-1]) / 2  # ties
    values = np.concatenate([every, middle, np.nextafter(middle, 9), rng.normal(0, 1e-4, 1000)])
    values = np.concatenate([values, -values])
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(normalise_jax.round_to_half)(values))
    np.testing.assert_array_equal(found, values.astype(np.float16).astype(np.float32))


def test_tracing_in_32_bits_is_refused():
    with pytest.raises(ValueError, match="enable_x64"):
        normalise_jax.normalise(np.zeros(SHAPE, np.float32), "slice")
