"""Panels of test slices."""

from types import SimpleNamespace

import numpy as np
import pytest
from skimage.metrics import structural_similarity
from viewer_example import head_slice as head

from brats_jax.evaluation import panels as pictures
from brats_jax.runs.folder import FoldFolder
from brats_jax.tasks import Pretraining
from brats_jax.viewer import panels

RNG = np.random.default_rng(0)


def test_the_printed_ssim_is_scikit_images_of_that_slice(tmp_path, monkeypatch):
    images = np.stack([np.stack([head(v)] * 4, -1) for v in (1.0, 2.0)])
    predicted = images[..., 3] + np.float32([[[0.1]], [[0.4]]]) * RNG.standard_normal((24, 30))
    store = SimpleNamespace(
        read=lambda indices: (images, np.zeros((2, 24, 30), np.uint8)),
        patients=["A", "B"],
        patient_of=np.arange(2),
        slice_number=np.array([70, 71]),
    )
    drawn = []
    monkeypatch.setattr(pictures, "predict_slices", lambda *_: predicted.astype(np.float32))
    monkeypatch.setattr(panels, "save", lambda figure, path: drawn.append(figure))
    pictures.draw(
        FoldFolder(tmp_path), SimpleNamespace(task=Pretraining()), store, np.arange(2), ""
    )
    titles = [axis.get_title() for axis in drawn[0].axes if "SSIM" in axis.get_title()]
    for target, prediction, title in zip(images[..., 3], predicted, titles, strict=True):
        expected = structural_similarity(target, prediction, data_range=np.ptp(target))
        assert float(title.split("SSIM ")[1]) == pytest.approx(expected, abs=6e-4)


def test_each_patients_slice_with_most_tumour_is_drawn_first():
    """Patients A and B with 40 slices each; the tumour is largest in slices 20 and 5."""
    number = np.tile(np.arange(40), 2)
    peak = np.repeat([20, 5], 40)
    burden = 100 - np.abs(number - peak)
    store = SimpleNamespace(
        pixels=np.stack([np.zeros(80), burden], axis=1).astype(np.int64),
        patient_of=np.repeat([0, 1], 40),
        slice_number=number,
    )
    indices = np.arange(80)
    assert pictures.slices_to_draw(store, indices, 2).tolist() == [20, 45]
    # The next ones are at least APART slices from those before.
    assert pictures.slices_to_draw(store, indices, 4).tolist() == [10, 20, 45, 55]
    assert len(pictures.slices_to_draw(store, indices[:5], 9)) == 1
    assert pictures.slices_to_draw(store, indices, 0).size == 0
