"""Panels of test slices."""

from types import SimpleNamespace

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


def test_each_patients_slice_with_most_tumour_is_drawn_first():
    """Patients A and B with 40 slices each; the tumour is largest in slices 20 and 5."""
    number = np.tile(np.arange(40), 2)
    peak = np.repeat([20, 5], 40)
    burden = 100 - np.abs(number - peak)
    store = SimpleNamespace(
        pixels=np.stack([np.zeros(80), burden], axis=1).astype(np.int64),
        patient_of=np.repeat([0, 1], 40),
        slice_number=number,
        plane="axial",
    )
    indices = np.arange(80)
    assert panels.slices_to_draw(store, indices, 2).tolist() == [20, 45]
    # The next ones are at least APART slices from those before.
    assert panels.slices_to_draw(store, indices, 4).tolist() == [10, 20, 45, 55]
    assert len(panels.slices_to_draw(store, indices[:5], 9)) == 1
    assert panels.slices_to_draw(store, indices, 0).size == 0
