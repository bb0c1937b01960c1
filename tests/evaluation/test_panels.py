"""Panels of test slices."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity
from viewer_example import head_slice as head

from brats_jax.evaluation import panels
from brats_jax.tasks import Pretraining

RNG = np.random.default_rng(0)


def test_the_ssim_of_a_row_is_scikit_images_of_that_slice():
    images = np.stack([np.stack([head(v)] * 4, -1) for v in (1.0, 2.0)])
    predicted = images[..., 3] + np.float32([[[0.1]], [[0.4]]]) * RNG.standard_normal((24, 30))
    predicted = predicted.astype(np.float32)
    rows = panels.reconstruction_rows(
        Pretraining(), images, predicted, [("A", 70, 0), ("B", 71, 1)]
    )
    assert [(row.patient, row.slice_number) for row in rows] == [("A", 70), ("B", 71)]
    for target, prediction, row in zip(images[..., 3], predicted, rows, strict=True):
        np.testing.assert_array_equal(row.prediction, prediction)
        expected = structural_similarity(target, prediction, data_range=np.ptp(target))
        assert row.ssim == pytest.approx(expected, abs=1e-5)
    assert abs(rows[0].ssim - rows[1].ssim) > 1e-3
