"""Image metrics: values by hand and scikit-image's, also of images where float32 loses digits."""

import math

import jax
import numpy as np
import pytest
from image_examples import hard_cases, regions
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

from brats_jax.errors import BratsError
from brats_jax.metrics import image


def test_ranges_by_hand():
    target = np.zeros((2, 8, 8), np.float32)
    target[0, 0, :2], target[1] = [5, -1], -2
    np.testing.assert_array_equal(image.data_range(target, "target"), [6, 0])
    np.testing.assert_array_equal(image.data_range(target, "target_max"), [5, -2])
    np.testing.assert_array_equal(image.data_range(target, "fixed", 7.5), [7.5, 7.5])
    np.testing.assert_array_equal(image.data_range(target, 7.5), [7.5, 7.5])
    assert np.isnan(image.psnr(target + 1, target, image.data_range(target, "target_max"))[1])
    assert image.psnr(target + 1, target, image.data_range(target, "target_max"))[0] == (
        pytest.approx(20 * math.log10(5))
    )


def test_a_constant_background_raises_the_score_of_the_whole_image():
    prediction, target = hard_cases()
    mask, ranges = regions(target), image.data_range(target)
    prediction = np.where(mask, prediction, target)
    for metric, better in ((image.ssim, 1), (image.psnr, 1), (image.mse, -1)):
        extra = () if metric is image.mse else (ranges,)
        whole, region = metric(prediction, target, *extra), metric(prediction, target, *extra, mask)
        assert better * (whole[0] - region[0]) > 0  # of the first, the brain


def test_mse_and_psnr_of_volumes_are_scikit_images():
    rng = np.random.default_rng(5)
    prediction, target = rng.standard_normal((2, 3, 9, 8, 7)).astype(np.float32)
    mask = target > 0
    ranges = image.data_range(target)
    squares = [mean_squared_error(t, p) for t, p in zip(target, prediction, strict=True)]
    np.testing.assert_allclose(image.mse(prediction, target), squares, rtol=1e-5)
    squares = [
        mean_squared_error(t[m], p[m]) for t, p, m in zip(target, prediction, mask, strict=True)
    ]
    np.testing.assert_allclose(image.mse(prediction, target, mask), squares, rtol=1e-5)
    decibels = [
        peak_signal_noise_ratio(t, p, data_range=float(r))
        for t, p, r in zip(target, prediction, ranges, strict=True)
    ]
    np.testing.assert_allclose(image.psnr(prediction, target, ranges), decibels, atol=1e-4)


def test_mse_and_psnr_by_hand():
    target = np.zeros((2, 8, 8), np.float32)
    target[:, 0, 0] = 10
    prediction = target.copy()
    prediction[1, 4, 4:] = [1, 1, 1, 1]  # four errors of 1 in 64 pixels: MSE 1/16
    np.testing.assert_allclose(image.mse(prediction, target), [0, 1 / 16])
    ranges = image.data_range(target)
    np.testing.assert_array_equal(ranges, [10, 10])
    expected = [math.inf, 20 + 10 * math.log10(16)]
    np.testing.assert_allclose(image.psnr(prediction, target, ranges), expected, rtol=1e-6)
    mask = np.zeros(target.shape, bool)
    mask[:, 4] = True  # the row with the errors: MSE 1/2
    np.testing.assert_allclose(image.mse(prediction, target, mask), [0, 1 / 2])
    expected = [math.inf, 20 + 10 * math.log10(2)]
    np.testing.assert_allclose(image.psnr(prediction, target, ranges, mask), expected, rtol=1e-6)


def test_mse_and_psnr_are_scikit_images():
    prediction, target = hard_cases()
    ranges = image.data_range(target)
    pairs = list(zip(target.astype(np.float64), prediction.astype(np.float64), strict=True))
    expected = [mean_squared_error(t, p) for t, p in pairs]
    np.testing.assert_allclose(image.mse(prediction, target), expected, rtol=1e-5)
    expected = [
        peak_signal_noise_ratio(t, p, data_range=float(r))
        for (t, p), r in zip(pairs, ranges, strict=True)
    ]
    np.testing.assert_allclose(image.psnr(prediction, target, ranges), expected, atol=1e-4)
    scalar = image.psnr(prediction, target, 6.0)
    np.testing.assert_allclose(scalar, image.psnr(prediction, target, np.full(5, 6.0)), rtol=1e-6)


def test_psnr_and_mse_of_the_paper_imply_its_range():
    # Table 1: MSE 0.0381 and 29.77 dB; 20 log10(R) - 10 log10(0.0381) = 29.77 has R = 6.01.
    target = np.zeros((1, 8, 8), np.float32)
    value = image.psnr(target + np.float32(math.sqrt(0.0381)), target, 6.01)[0]
    assert value == pytest.approx(29.77, abs=0.01)


def test_constant_slices_and_empty_regions_are_nan():
    flat = np.full((1, 8, 8), 3.0, np.float32)
    ranges = image.data_range(flat)
    assert ranges[0] == 0
    for prediction in (flat, flat + 1, flat + np.eye(8, dtype=np.float32)):
        assert np.isnan(image.psnr(prediction, flat, ranges)[0])
        assert np.isnan(image.ssim(prediction, flat, ranges)[0])
    assert image.psnr(flat + 1, flat, 10.0)[0] == pytest.approx(20)  # a fixed range is a number
    nothing = np.zeros(flat.shape, bool)
    margin = nothing.copy()
    margin[:, 0] = True  # no window is centred there
    assert np.isnan(image.mse(flat + 1, flat, nothing)[0])
    assert np.isnan(image.psnr(flat + 1, flat, 10.0, nothing)[0])
    assert np.isnan(image.ssim(flat + 1, flat, 10.0, margin)[0])  # where 3 pixels are left out
    assert image.mse(flat + 1, flat, margin)[0] == 1


def test_half_precision_images_are_measured_in_float32():
    half = [x.astype(np.float16) for x in hard_cases()]
    wide = [x.astype(np.float32) for x in half]
    np.testing.assert_allclose(image.mse(*half), image.mse(*wide), rtol=1e-6)
    ranges = image.data_range(wide[1])
    np.testing.assert_allclose(image.ssim(*half, ranges), image.ssim(*wide, ranges), rtol=1e-6)


def test_metrics_are_the_same_under_jit():
    prediction, target = hard_cases()

    @jax.jit
    def all_of(p, t):
        ranges = image.data_range(t, "target")
        return image.mse(p, t), image.psnr(p, t, ranges), image.ssim(p, t, ranges)

    ranges = image.data_range(target)
    for a, b in zip(
        all_of(prediction, target),
        (
            image.mse(prediction, target),
            image.psnr(prediction, target, ranges),
            image.ssim(prediction, target, ranges),
        ),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["targget", "6.0", 0.0, -1, math.nan, math.inf, True, None])
def test_unknown_ranges_are_refused_with_the_valid_ones(rule):
    with pytest.raises(BratsError, match="positive number or one of: target"):
        image.data_range(np.zeros((1, 8, 8), np.float32), rule)
    if not isinstance(rule, str) and rule is not None:
        with pytest.raises(BratsError, match="positive number or one of: target"):
            image.data_range(np.zeros((1, 8, 8), np.float32), "fixed", rule)


def test_invalid_images_and_ranges_are_refused():
    x = np.zeros((2, 8, 8), np.float32)
    with pytest.raises(BratsError, match="share one shape"):
        image.mse(x, x[:, :7])
    with pytest.raises(BratsError, match="share one shape"):
        image.psnr(x, x, 1.0, np.ones((2, 8, 7), bool))
    with pytest.raises(BratsError, match="share one shape"):
        image.ssim(x[0], x[0], 1.0)
    with pytest.raises(BratsError, match="one for each of the 2 images"):
        image.ssim(x, x, np.ones(3))
    with pytest.raises(BratsError, match="6 x 8 are smaller"):
        image.ssim(x[:, :6], x[:, :6], 1.0)
    with pytest.raises(BratsError, match="2 x 8 x 8 are smaller than SSIM's 7 x 7 x 7"):
        image.ssim(x[None], x[None], 1.0)
    with pytest.raises(BratsError, match="11 x 11 window"):
        image.ssim(x, x, 1.0, window="gaussian11")
    with pytest.raises(BratsError, match="uniform7, gaussian11"):
        image.ssim(x, x, 1.0, window="gaussian7")
    for rule, fixed in (("fixed", None), ("target", 6.0), ("target_max", 6.0)):
        with pytest.raises(BratsError, match="with the rule 'fixed'"):
            image.data_range(x, rule, fixed)
