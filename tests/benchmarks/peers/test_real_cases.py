"""The scorer of all programs, and the data set that nnU-Net trains on."""

import json

import nibabel
import numpy as np
import pytest
from brats_files import make_case, write_nifti_case

from benchmarks.peers import real_cases
from brats_jax.errors import BratsError


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    write_nifti_case(folder, "BraTS2021_00001", make_case())
    return real_cases.find([folder], ["BraTS2021_00001"])["BraTS2021_00001"]


def test_nnunet_gets_links_to_the_images_and_labels_with_et_as_3(case, tmp_path):
    real_cases.write_nnunet({case.name: case}, tmp_path)
    real_cases.write_nnunet({case.name: case}, tmp_path)  # also a second time
    folder = tmp_path / "raw" / "Dataset001_BraTS"
    links = sorted((folder / "imagesTr").iterdir())
    assert [link.name[-12:] for link in links] == [f"_000{k}.nii.gz"[-12:] for k in range(4)]
    ends = [link.resolve().name.rsplit("_", 1)[1] for link in links]
    assert ends == ["t1.nii.gz", "t1ce.nii.gz", "t2.nii.gz", "flair.nii.gz"]
    given = nibabel.load(case.paths["seg"])
    written = nibabel.load(folder / "labelsTr" / f"{case.name}.nii.gz")
    before, after = np.asarray(given.dataobj), np.asarray(written.dataobj)
    assert set(np.unique(before)) == {0, 1, 2, 4} and set(np.unique(after)) == {0, 1, 2, 3}
    assert np.array_equal(before == 4, after == 3)
    assert np.allclose(given.affine, written.affine)
    document = json.loads((folder / "dataset.json").read_text())
    assert document["labels"] == {"background": 0, "NCR/NET": 1, "ED": 2, "ET": 3}
    assert document["numTraining"] == 1 and document["channel_names"]["1"] == "T1Gd"


def test_both_labels_of_et_score_the_same_and_another_grid_is_refused(case, tmp_path):
    truth, image = real_cases.read_truth(case)
    for et in (3, 4):
        labels = np.where(truth == 3, et, truth).astype(np.uint8)
        path = tmp_path / f"{et}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(labels, image.affine), path)
        scores = real_cases.score(path, case)
        assert scores["dice"] == scores["dice_ET"] == 1 and scores["hd95_mm_WT"] == 0
    nibabel.save(nibabel.Nifti1Image(truth[::-1], np.eye(4)), path)
    with pytest.raises(BratsError, match=r"4.nii.gz lies on another grid than"):
        real_cases.score(path, case)


def test_empty_regions_count_as_in_brats_2020():
    truth = np.zeros((6, 6, 6), np.uint8)
    truth[2:4, 2:4, 2:4] = 2  # ED alone: neither TC nor ET
    labels = np.roll(truth, 1, axis=0)
    labels[0, 0, 0] = 1  # a false TC
    scores = real_cases.score_labels(labels, truth, (1.0, 1.0, 1.0))
    assert scores["dice_WT"] == pytest.approx(2 * 4 / (9 + 8))
    assert scores["dice_TC"] == 0 and scores["hd95_mm_TC"] == pytest.approx(373.13, abs=0.01)
    assert scores["dice_ET"] == 1 and scores["hd95_mm_ET"] == 0
    assert scores["dice"] == pytest.approx((8 / 17 + 0 + 1) / 3)


def test_a_case_that_no_folder_holds_is_named(case):
    with pytest.raises(BratsError, match="BraTS2021_9 of the store is in none of --source"):
        real_cases.find([case.folder.parent], ["BraTS2021_9"])
