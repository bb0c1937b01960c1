import numpy as np
import pytest

from brats_jax.data.scans.blank_slices import areas_by_plane, note_blank_slices
from brats_jax.errors import BratsError


def head(depth=20):
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in (depth, 24, 28)), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    return np.repeat(inside[..., None], 2, axis=-1).astype(np.int16)


def noted(images):
    notes = []
    note_blank_slices(areas_by_plane(images), {0: "T1", 1: "T2"}, notes)
    return notes


def test_areas_are_those_of_each_plane():
    images = head()
    axial, sagittal, coronal = areas_by_plane(images)
    assert axial.tolist() == images.sum(axis=(1, 2)).tolist()
    assert sagittal.tolist() == images[::4].sum(axis=(0, 2)).tolist()
    assert coronal.tolist() == images.sum(axis=(0, 1)).tolist()


def test_a_right_scan_has_no_note():
    assert noted(head()) == []


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_blank_slices_are_counted_in_every_plane(plane):
    images = head()
    np.moveaxis(images, plane, 0)[8:12, ..., 1] = 0
    name = ("axial", "sagittal", "coronal")[plane]
    assert any("T2 is blank in 4 of the" in n and f" {name} slices" in n for n in noted(images))
    np.moveaxis(images, plane, 0)[3:20, ..., 1] = 0
    with pytest.raises(BratsError, match=rf"T2 is blank in 1[0-9] of the .* {name} slices"):
        noted(images)


def test_a_modality_that_ends_one_slice_early_of_many_is_no_matter():
    images = head(60)
    first = np.flatnonzero(images.any(axis=(1, 2, 3)))[0]
    images[: first + 3, ..., 1] = 0
    assert noted(images) == []


def test_slices_that_are_blank_in_all_modalities_amid_the_brain_count():
    images = head()
    images[9:12] = 0
    assert [note.split(" of ")[0] for note in noted(images)] == [
        "T1 is blank in 3",
        "T2 is blank in 3",
    ]
