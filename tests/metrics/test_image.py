"""Image metrics against hand values and scikit-image, where float32 has a hard time too."""

import math
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from brats_jax.errors import BratsError
from brats_jax.metrics import image, image_flat

SHAPE = (60, 71)
GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "ssim.npz")


def smooth(rng, sigma, shape=SHAPE):
    return ndimage.gaussian_filter(rng.standard_normal(shape), sigma) * sigma


def hard_cases():
    """Slices [N, H, W] in float32: what z-scoring makes of brains, and worse."""
    rng = np.random.default_rng(2)
    brain = smooth(rng, 3) + 2
    brain[:20] = brain[:, 50:] = brain.min() - 1  # a constant background that is not 0
    brain = (brain - brain.mean()) / brain.std()
    nearly_empty = np.zeros(SHAPE)
    nearly_empty[30:33, 30:32] = 150
    nearly_empty -= nearly_empty.mean()
    half = np.where(np.arange(SHAPE[0])[:, None] < 30, -1.0, 5.1) + np.zeros(SHAPE)
    bright = np.where(np.arange(SHAPE[0])[:, None] < 50, 6.1, -0.4) + np.zeros(SHAPE)
    target = np.stack([brain, nearly_empty, half, bright, 100 + 0.1 * smooth(rng, 3)])
    error = np.array([0.3, 0.1, 1e-3, 1e-3, 0.03])[:, None, None]
    prediction = target + error * np.stack([smooth(rng, 1) for _ in target])
    prediction[2] += 0.0137  # flat against flat: only rounding could tell variances from 0
    return prediction.astype(np.float32), target.astype(np.float32)


def regions(target):
    """The brain: what is brighter than the darkest value, as a mask."""
    return target > target.min(axis=(1, 2), keepdims=True) + 1e-3


WINDOWS = {
    "uniform7": (3, {}),
    "gaussian11": (5, {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}),
}
each_window = pytest.mark.parametrize("window", WINDOWS)


def skimage_map(prediction, target, value_range, window="uniform7"):
    """scikit-image's SSIM, and its map without the margin it leaves out of the mean."""
    margin, arguments = WINDOWS[window]
    mean, full = structural_similarity(
        *(np.asarray(x, np.float64) for x in (target, prediction)),
        data_range=float(value_range),
        full=True,
        **arguments,
    )
    return mean, full[(slice(margin, -margin),) * full.ndim]


@each_window
def test_ssim_is_scikit_images(window):
    prediction, target = hard_cases()
    for rule in ("target", 6.0):
        ranges = image.data_range(target, rule)
        expected = [
            skimage_map(*x, window)[0] for x in zip(prediction, target, ranges, strict=True)
        ]
        got = image.ssim(prediction, target, ranges, window=window)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0)
    assert min(expected) < 0.95  # not a comparison of ones


@each_window
def test_ssim_in_a_region_is_the_mean_of_the_map(window):
    prediction, target = hard_cases()
    ranges, margin = image.data_range(target), WINDOWS[window][0]
    tumour = np.zeros(target.shape, bool)
    tumour[:, 28:40, 25:35], tumour[0, 2, 30] = True, True  # ragged, one pixel in the margin
    tumour[:, 33, 28:31] = False
    for mask in (regions(target), tumour):
        expected = [
            skimage_map(p, t, r, window)[1][m[margin:-margin, margin:-margin]].mean()
            for p, t, r, m in zip(prediction, target, ranges, mask, strict=True)
        ]
        got = image.ssim(prediction, target, ranges, mask, window)
        np.testing.assert_allclose(got, expected, atol=1e-5, rtol=0)


def test_the_two_windows_are_two_numbers():
    prediction, target = hard_cases()
    uniform, gaussian = (
        np.asarray(image.ssim(prediction, target, 6.0, window=w)) for w in image.SSIM_WINDOWS
    )
    assert abs(uniform - gaussian)[0] > 1e-3


def test_gaussian_ssim_matches_monai():
    prediction, target = GOLDEN["prediction"], GOLDEN["target"]
    got = image.ssim(prediction, target, float(GOLDEN["data_range"]), window="gaussian11")
    np.testing.assert_allclose(got, GOLDEN["monai_ssim"], atol=1e-5, rtol=0)
    assert GOLDEN["monai_ssim"].max() < 0.99


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


def test_a_constant_background_flatters_and_the_region_does_not():
    prediction, target = hard_cases()
    mask, ranges = regions(target), image.data_range(target)
    prediction = np.where(mask, prediction, target)
    for metric, better in ((image.ssim, 1), (image.psnr, 1), (image.mse, -1)):
        extra = () if metric is image.mse else (ranges,)
        whole, region = metric(prediction, target, *extra), metric(prediction, target, *extra, mask)
        assert better * (whole[0] - region[0]) > 0  # of the first, the brain


@each_window
def test_volumes_are_measured_as_scikit_image_does(window):
    """[B, D, H, W]: windows of 7 or 11 voxels a side, and the statistics of their cubes."""
    rng = np.random.default_rng(4)
    target = np.stack([smooth(rng, 2, (12, 17, 14)) + offset for offset in (0, 20)])
    target[0, :, 11:] = -0.5  # a flat background
    prediction = target + 0.2 * rng.standard_normal(target.shape)
    prediction, target = prediction.astype(np.float32), target.astype(np.float32)
    ranges, margin = image.data_range(target), WINDOWS[window][0]
    np.testing.assert_array_equal(ranges, [np.ptp(x) for x in target])
    mask = regions(target)
    inner = mask[:, *[slice(margin, -margin)] * 3]
    expected = [skimage_map(*x, window) for x in zip(prediction, target, ranges, strict=True)]
    whole = image.ssim(prediction, target, ranges, window=window)
    np.testing.assert_allclose(whole, [mean for mean, _ in expected], atol=1e-5, rtol=0)
    part = image.ssim(prediction, target, ranges, mask, window)
    region = [full[m].mean() for (_, full), m in zip(expected, inner, strict=True)]
    np.testing.assert_allclose(part, region, atol=1e-5, rtol=0)
    assert max(*np.abs(np.subtract(whole, part)), 0) > 1e-3


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


def test_ssim_by_hand():
    # In flat windows of 1 and 3 variances vanish: SSIM = (2*1*3 + C1) / (1 + 9 + C1), C1 = 0.0004.
    x = np.ones((1, 9, 9), np.float32)
    assert image.ssim(x, 3 * x, 2.0)[0] == pytest.approx(6.0004 / 10.0004, abs=1e-6)
    # A window and its negative, zero mean: (C2 - 2v) / (C2 + 2v), with v the sample variance.
    z = np.random.default_rng(0).standard_normal((1, 7, 7)).astype(np.float32)
    z -= z.mean()
    v, c2 = z.var(ddof=1), 0.0036
    assert image.ssim(-z, z, 2.0)[0] == pytest.approx((c2 - 2 * v) / (c2 + 2 * v), abs=1e-5)


def test_ssim_of_identical_images_is_one():
    _, target = hard_cases()
    np.testing.assert_allclose(
        image.ssim(target, target, image.data_range(target)), 1, atol=1e-5, rtol=0
    )


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


def test_metrics_compose_under_jit():
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


def test_bad_input():
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


@pytest.mark.real
@pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="no real cases")
def test_real_slices_are_scikit_images():
    import nibabel

    root = Path(os.environ["BRATS_REAL_DATA"])
    for path in sorted(root.rglob("*_flair.nii.gz"))[:2]:
        volumes = [
            np.asarray(nibabel.load(p).dataobj, np.float32)
            for p in (path, path.with_name(path.name.replace("_flair", "_t2")))
        ]
        # The middle, and the crown of the brain, where few pixels make z-scores run wild.
        crown = np.flatnonzero(volumes[0].any((0, 1)))[-1]
        target, prediction = (np.moveaxis(v[:, :, [80, crown]], 2, 0) for v in volumes)
        target, prediction = (
            (x - x.mean((1, 2), keepdims=True)) / (x.std((1, 2), keepdims=True) + 1e-6)
            for x in (target, prediction)
        )
        ranges, mask = image.data_range(target), regions(target)
        whole = image.ssim(prediction, target, ranges)
        brain = image.ssim(prediction, target, ranges, mask)
        for i in (0, 1):
            mean, full = skimage_map(prediction[i], target[i], ranges[i])
            assert whole[i] == pytest.approx(mean, abs=1e-5)
            assert brain[i] == pytest.approx(full[mask[i, 3:-3, 3:-3]].mean(), abs=1e-5)
        assert ranges[1] > 20


@pytest.mark.parametrize("shape", [(3, 24, 19), (2, 9, 12, 10)])
def test_ssim_on_a_cpu_is_the_compiled_one(shape):
    rng = np.random.default_rng(11)
    target = rng.standard_normal(shape).astype(np.float32) + 3
    target[0, :9] = 0
    prediction = target + rng.standard_normal(shape).astype(np.float32)
    mask, ranges = rng.random(shape) < 0.3, np.array([6.0, 0.0, 2.5][: shape[0]])
    for region in (None, mask):
        host = image.ssim(prediction, target, ranges, region)
        compiled = jax.jit(image.ssim)(prediction, target, ranges, region)
        np.testing.assert_allclose(host, compiled, atol=2e-6, rtol=0)
    assert np.isnan(host[1]) and np.isfinite(host[0])


def test_ssim_of_flat_images_far_from_the_background_has_its_digits():
    target = np.zeros((1, 40, 40), np.float32)
    target[0, :15] = 0.7311
    prediction = target + np.float32(1e-3) * (target > 0)
    # The fast form would not do, and says so.
    one = np.ones(1, np.float32)
    assert image_flat.ssim_uniform(prediction, target, one, None, 1e-4, 9e-4)[1].tolist() == [True]
    # By definition in float64: every window's (co)variances are those of its 49 pixels.
    expected, _ = skimage_map(prediction[0].astype(float), target[0].astype(float), 1.0, "uniform7")
    assert image.ssim(prediction, target, 1.0)[0] == pytest.approx(expected, abs=1e-7)
    assert image.ssim(target, target, 1.0)[0] == 1
    beyond = np.where(target > 0, np.inf, target)
    assert np.isnan(image.ssim(beyond, target, 1.0)[0])
