"""Images whose metrics are sensitive to rounding, and scikit-image's SSIM. Not tests."""

import numpy as np
from scipy import ndimage
from skimage.metrics import structural_similarity

SHAPE = (60, 71)


def smooth(rng, sigma, shape=SHAPE):
    return ndimage.gaussian_filter(rng.standard_normal(shape), sigma) * sigma


def hard_cases():
    """Slices float32[N, H, W]: a z-scored brain, and images where float32 loses digits."""
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
    """The brain, as a mask: pixels brighter than the darkest value."""
    return target > target.min(axis=(1, 2), keepdims=True) + 1e-3


WINDOWS = {
    "uniform7": (3, {}),
    "gaussian11": (5, {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}),
}


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
