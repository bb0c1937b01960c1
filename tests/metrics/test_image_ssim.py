"""SSIM: values by hand and scikit-image's, also of images where float32 loses digits."""

import os
from pathlib import Path

import numpy as np
import pytest
from image_examples import WINDOWS, hard_cases, regions, skimage_map, smooth

from brats_jax.metrics import image

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "ssim.npz")
each_window = pytest.mark.parametrize("window", WINDOWS)


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


def test_the_two_windows_give_different_numbers():
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
