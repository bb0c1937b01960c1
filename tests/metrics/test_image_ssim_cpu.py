"""SSIM in the fast form of a CPU: against the compiled and the plain form, and scikit-image."""

import jax
import numpy as np
import pytest
from image_examples import skimage_map

from brats_jax.metrics import image, image_ssim_cpu
from brats_jax.runtime import forms


def test_windows_are_measured_as_scikit_image_does():
    rng = np.random.default_rng(3)
    target = rng.standard_normal((2, 15, 12)).astype(np.float32)
    prediction = target + np.float32(0.5) * rng.standard_normal(target.shape).astype(np.float32)
    ranges = np.float32([4.0, 6.0])
    found, doubtful = image_ssim_cpu.ssim_uniform(prediction, target, ranges, None, 1e-4, 9e-4)
    expected = [skimage_map(*x)[0] for x in zip(prediction, target, ranges, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert not doubtful.any()


@pytest.mark.parametrize("shape", [(3, 24, 19), (2, 9, 12, 10)])
def test_the_fast_form_on_a_cpu_is_the_plain_one(shape, monkeypatch):
    rng = np.random.default_rng(11)
    target = rng.standard_normal(shape).astype(np.float32) + 3
    target[0, :9] = 0
    prediction = target + rng.standard_normal(shape).astype(np.float32)
    mask, ranges = rng.random(shape) < 0.3, np.array([6.0, 0.0, 2.5][: shape[0]])
    for region in (None, mask):
        fast = image.ssim(prediction, target, ranges, region)
        compiled = jax.jit(image.ssim)(prediction, target, ranges, region)
        np.testing.assert_allclose(fast, compiled, atol=2e-6, rtol=0)
        with monkeypatch.context() as context:
            context.setenv(forms.VARIABLE, "ssim")
            plain = image.ssim(prediction, target, ranges, region)
        np.testing.assert_allclose(plain, compiled, atol=1e-7, rtol=0)
    assert np.isnan(fast[1]) and np.isfinite(fast[0])


def test_the_fast_form_marks_flat_images_far_from_the_background():
    target = np.zeros((1, 40, 40), np.float32)
    target[0, :15] = 0.7311
    prediction = target + np.float32(1e-3) * (target > 0)
    one = np.ones(1, np.float32)
    _, doubtful = image_ssim_cpu.ssim_uniform(prediction, target, one, None, 1e-4, 9e-4)
    assert doubtful.tolist() == [True]
    # By definition in float64: every window's (co)variances are those of its 49 pixels.
    expected, _ = skimage_map(prediction[0].astype(float), target[0].astype(float), 1.0, "uniform7")
    assert image.ssim(prediction, target, 1.0)[0] == pytest.approx(expected, abs=1e-7)
    assert image.ssim(target, target, 1.0)[0] == 1
    beyond = np.where(target > 0, np.inf, target)
    assert np.isnan(image.ssim(beyond, target, 1.0)[0])
