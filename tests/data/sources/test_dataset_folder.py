"""Folders of MSD and nnU-Net."""

from pathlib import Path

import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.scan import read_scan
from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.dataset_folder import (
    ALL_CHANNELS,
    cases_to_predict,
    dataset_folders,
)

ROOT = Path("/data")


def listed(*names):
    folders = dataset_folders([ROOT / name for name in sorted(names)])
    assert len(folders) == 1
    return folders[0]


def test_one_file_for_each_case_is_msd_and_one_for_each_channel_is_nnunet():
    msd = listed("imagesTr/BRATS_001.nii.gz", "labelsTr/BRATS_001.nii.gz", "imagesTs/B_2.nii")
    assert not msd.by_channel and msd.path == ROOT
    assert list(msd.cases["BRATS_001"].images) == [ALL_CHANNELS] and msd.cases["BRATS_001"].labels
    assert not msd.cases["B_2"].labels
    nnunet = listed("imagesTr/A_1_0000.nii.gz", "imagesTr/A_1_0003.nii.gz", "labelsTr/A_1.nii.gz")
    assert nnunet.by_channel and list(nnunet.cases["A_1"].images) == [0, 3]


def test_a_case_with_a_number_of_four_digits_is_no_channel():
    found = listed("imagesTr/BRATS_0001.nii.gz", "labelsTr/BRATS_0001.nii.gz")
    assert not found.by_channel and list(found.cases) == ["BRATS_0001"]


def test_cases_of_brats_in_folders_of_such_names_are_not_taken():
    assert not dataset_folders([ROOT / "imagesTr" / "A_t1.nii.gz"])
    assert not dataset_folders([ROOT / "images" / "A_0000.nii.gz"])


def test_labels_of_test_images_and_other_files_are_left_out():
    found = listed("imagesTs/A_0000.nii.gz", "labelsTs/A.nii.gz", "imagesTs/readme.txt")
    assert not found.cases["A"].labels and len(found.left_out) == 2


def test_a_stray_file_does_not_change_the_layout():
    found = listed("imagesTr/A_0000.nii", "imagesTr/A_0001.nii", "imagesTr/sketch.nii")
    assert found.by_channel and list(found.cases) == ["A"]
    assert [path.name for path in found.left_out] == ["sketch.nii"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("imagesTr/A.nii", "imagesTr/A.nii.gz"), "are the same volume of A"),
        (("imagesTr/A.nii", "imagesTs/A.nii"), "are of one case in two sets"),
        (("imagesTr/A.nii", "labelsTr/A.nii", "labelsTr/A.nii.gz"), "are the same volume of A"),
    ],
)
def test_two_files_in_one_place_are_a_conflict(names, message):
    assert message in listed(*names).cases["A"].conflict


def test_cases_are_predicted_by_the_channels_of_dataset_json(tmp_path, brats_files):
    volumes = brats_files.make_case()
    for part, document in (("msd", brats_files.MSD_JSON), ("nnunet", brats_files.NNUNET_JSON)):
        brats_files.write_dataset_json(tmp_path / part, document)
        write = getattr(brats_files, f"write_{part}_case")
        write(tmp_path / part, f"{part}_1", volumes, part="Ts")
    cases = cases_to_predict(folder_files(tmp_path))
    assert [case.name for case in cases] == ["msd_1", "nnunet_1"]
    one, other = (read_scan(case, MODALITIES) for case in cases)
    assert one.present == other.present == MODALITIES
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.images[..., 3], np.moveaxis(volumes["flair"], 2, 0))
