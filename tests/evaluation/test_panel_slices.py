"""The slices of a panel: chosen, written and read back, and refused where damaged."""

from types import SimpleNamespace

import numpy as np
import pytest

from brats_jax.errors import BratsError
from brats_jax.evaluation.panel_slices import PanelSlices, slices_to_draw


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
    assert slices_to_draw(store, indices, 2).tolist() == [20, 45]
    # The next ones are at least APART slices from those before.
    assert slices_to_draw(store, indices, 4).tolist() == [10, 20, 45, 55]
    assert len(slices_to_draw(store, indices[:5], 9)) == 1
    assert slices_to_draw(store, indices, 0).size == 0
