"""The slices of a panel on disk: written and read back, and refused where damaged."""

import numpy as np
import pytest

from brats_jax.errors import BratsError
from brats_jax.evaluation.panel_slices import PanelSlices


@pytest.fixture
def slices():
    rng = np.random.default_rng(0)
    return PanelSlices(
        patients=["A", "B"],
        numbers=[70, 71],
        images={name: rng.normal(size=(2, 6, 5)).astype(np.float16) for name in ("flair", "t1")},
        truth=rng.integers(0, 4, (2, 6, 5)).astype(np.uint8),
        prediction=rng.integers(0, 4, (2, 6, 5)).astype(np.uint8),
        dice=np.float32([[1, 0.5, np.nan, 0], [1, 1, 1, np.nan]]),
    )


def test_slices_are_read_back_as_they_were_written(slices, tmp_path):
    slices.save(tmp_path / "panels" / "segmentation.npz")
    again = PanelSlices.load(tmp_path / "panels" / "segmentation.npz")
    assert (again.patients, again.numbers) == (slices.patients, slices.numbers)
    assert list(again.images) == ["flair", "t1"]
    for name, image in slices.images.items():
        np.testing.assert_array_equal(again.images[name], image)
    for name in ("truth", "prediction", "dice"):
        np.testing.assert_array_equal(getattr(again, name), getattr(slices, name))


def test_a_damaged_file_is_refused_with_a_remedy(slices, tmp_path):
    path = tmp_path / "segmentation.npz"
    with pytest.raises(BratsError, match=r"segmentation\.npz: cannot be read"):
        PanelSlices.load(path)
    slices.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BratsError, match=r"remove that fold's evaluation\.json, and give the comm"):
        PanelSlices.load(path)
