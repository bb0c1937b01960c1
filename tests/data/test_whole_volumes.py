import numpy as np

from brats_jax.data.whole_volumes import missing_slices, note_on_holes, ranges


def test_a_volume_of_slice_files_is_whole_with_all_slices_of_the_release():
    assert not missing_slices(np.arange(155), "kaggle").size
    assert missing_slices(np.arange(154), "kaggle").tolist() == [154]
    assert len(missing_slices(np.array([3, 4, 9, 10, 15]), "kaggle")) == 150


def test_another_volume_is_whole_with_consecutive_slices():
    assert not missing_slices(np.arange(8), "nifti").size
    assert missing_slices(np.array([3, 4, 7]), "nifti").tolist() == [5, 6]


def test_missing_slices_are_named_as_ranges():
    assert ranges(np.array([0, 1, 2, 5, 8, 9])) == "0 to 2, 5, 8 to 9"
    assert ranges(np.arange(0, 20, 2)) == "0, 2, 4, 6, ..."
    numbers = np.array([3, 4, 9, 10, 15])
    assert "150 of 155 slices are missing (0 to 2, 5 to 8" in note_on_holes(numbers, "kaggle")
    assert note_on_holes(np.arange(155), "kaggle") == ""
