"""Panels of test slices."""

from types import SimpleNamespace

import numpy as np
import pytest
from skimage.metrics import structural_similarity
from viewer_example import head_slice as head

from brats_jax.evaluation import panels as pictures
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
    pictures.draw(tmp_path, SimpleNamespace(task=Pretraining()), store, np.arange(2), "")
    titles = [axis.get_title() for axis in drawn[0].axes if "SSIM" in axis.get_title()]
    for target, prediction, title in zip(images[..., 3], predicted, titles, strict=True):
        expected = structural_similarity(target, prediction, data_range=np.ptp(target))
        assert float(title.split("SSIM ")[1]) == pytest.approx(expected, abs=6e-4)
