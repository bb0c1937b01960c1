"""Whole slices in batches on the devices, and which pixels are brain."""

import nibabel
import numpy as np
import pytest

from brats_jax.data.brain import brain_mask
from brats_jax.data.store.reader import Store
from brats_jax.evaluation.slices import air_in, describe_slices, device_batches, voxel_spacing_mm
from brats_jax.runtime.devices import data_mesh


def test_batches_keep_the_order_and_mark_the_filling(small_store):
    indices = np.arange(3, 10)
    batches = list(device_batches(data_mesh(), small_store, indices, 4))
    assert [batch["image"].shape[0] for batch, _ in batches] == [4, 4]
    images = np.concatenate([np.asarray(batch["image"])[valid] for batch, valid in batches])
    labels = np.concatenate([np.asarray(batch["label"])[valid] for batch, valid in batches])
    expected = small_store.read(indices)
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_array_equal(labels, expected[1])
    assert sum(int(valid.sum()) for _, valid in batches) == len(indices)


def test_brain_differs_from_the_corner_in_any_modality():
    images = np.full((1, 3, 3, 4), -0.5, np.float32)  # air after normalisation by slice
    images[0, 1, 1, 2] = 0.7
    images[0, 2, 1, 0] = -0.4
    assert np.argwhere(brain_mask(images)).tolist() == [[0, 1, 1], [0, 2, 1]]


@pytest.mark.parametrize("how", ("slice", "volume"))
def test_air_is_where_every_modality_of_the_files_is_0(example_runs, how):
    """The value of air in the store depends on the normalisation."""
    folder = example_runs[how]
    store = Store.open(folder / "store")
    name = store.patients[0]
    files = [p for p in (folder / "cases" / name).glob("*.nii.gz") if "seg" not in p.name]
    scan = np.stack([nibabel.load(path).get_fdata() for path in files])
    expected = ~scan.any(axis=0).transpose(2, 0, 1)
    slices = np.asarray(store.slices_of(name))
    found = air_in(store, slices, store.read(slices)[0])
    assert 0 < found.sum() < found.size
    np.testing.assert_array_equal(found, expected)


def test_slices_are_described_by_patient_and_number(small_store):
    first, second = small_store.patients[:2]
    indices = np.concatenate([small_store.slices_of(first), small_store.slices_of(second)[:3]])
    slices = describe_slices(small_store, indices)
    assert slices.patients.tolist() == [first, second]
    assert slices.whole.tolist() == [True, False]
    assert slices.number[-3:].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(slices.tumour, small_store.has_tumour[indices])
    # 240 mm in 48 pixels, 155 mm in 16 slices.
    assert voxel_spacing_mm(small_store, first) == (5.0, 5.0, 9.6875)
