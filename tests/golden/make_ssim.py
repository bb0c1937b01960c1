"""Stores MONAI's SSIM of a few slices: ssim.npz.

Run in an environment of its own, which the test suite does not need:

    python -m venv golden && golden/bin/pip install torch==2.15.0 monai==1.6.1 scipy
    golden/bin/python tests/golden/make_ssim.py
"""

from pathlib import Path

import numpy as np
import torch
from monai.metrics import SSIMMetric
from scipy import ndimage

DATA_RANGE = 6.0


def main() -> None:
    rng = np.random.default_rng(3)
    target = ndimage.gaussian_filter(rng.standard_normal((3, 33, 38)), (0, 2, 2)) * 5
    target[0, :, 20:] = -0.5  # a flat background
    noise = rng.standard_normal(target.shape) * np.array([0.1, 0.3, 1.0])[:, None, None]
    prediction, target = (target + noise).astype(np.float32), target.astype(np.float32)
    # Its defaults: Gaussian window, 11 taps, sigma 1.5.
    metric = SSIMMetric(spatial_dims=2, data_range=DATA_RANGE)
    values = metric(*(torch.from_numpy(x[:, None]) for x in (prediction, target)))
    np.savez_compressed(
        Path(__file__).with_name("ssim.npz"),
        prediction=prediction,
        target=target,
        data_range=DATA_RANGE,
        monai_ssim=values.numpy()[:, 0],
    )


if __name__ == "__main__":
    main()
