"""Raw data of nnU-Net."""

import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.sources.detect import open_source
from brats_jax.errors import BratsError


@pytest.fixture(scope="module")
def volumes(brats_files):
    return brats_files.make_case()


@pytest.fixture
def root(tmp_path, brats_files, volumes):
    root = tmp_path / "Dataset137_BraTS"
    brats_files.write_dataset_json(root, brats_files.NNUNET_JSON)
    brats_files.write_nnunet_case(root, "A_001", volumes)
    return root


def test_a_case_equals_the_same_case_of_brats(root, tmp_path, brats_files, volumes):
    brats_files.write_nifti_case(tmp_path / "nifti", "A", volumes)
    source = open_source(str(root.parent / root.name))
    assert source.name == "nnunet" and source.patients() == ["A_001"]
    case, same = source.read("A_001"), open_source(str(tmp_path / "nifti")).read("A")
    np.testing.assert_array_equal(case.images, same.images)
    np.testing.assert_array_equal(case.labels, same.labels)
    assert case.present == MODALITIES


def test_a_channel_that_a_case_lacks_is_a_missing_modality(root, brats_files, volumes):
    part = {name: volumes[name] for name in ("t1gd", "flair", "seg")}
    brats_files.write_nnunet_case(root, "B_002", part)
    case = open_source(str(root)).read("B_002")
    assert case.present == ("t1gd", "flair") and not case.images[..., 0].any()
    np.testing.assert_array_equal(case.images[..., 1], np.moveaxis(volumes["t1gd"], 2, 0))


def test_a_case_of_other_channels_alone_is_refused(root, brats_files, volumes):
    names = {"0": "T1", "1": "T1ce", "2": "T2", "3": "ADC"}
    brats_files.write_dataset_json(root, {**brats_files.NNUNET_JSON, "channel_names": names})
    brats_files.write_nnunet_case(root, "B_002", {"flair": volumes["flair"]}, part="Ts")
    assert "has no modality of BraTS" in open_source(str(root)).problems()["B_002"]


def test_two_data_sets_below_a_folder_are_refused_with_their_folders(root, brats_files, volumes):
    other = root.parent / "Dataset138_BraTS"
    brats_files.write_dataset_json(other, brats_files.NNUNET_JSON)
    brats_files.write_nnunet_case(other, "B", volumes)
    with pytest.raises(BratsError, match=r"holds 2 data sets .*137.*138.* a --source for each"):
        open_source(str(root.parent))


def test_a_mixture_with_other_data_is_refused(root, brats_files, volumes):
    brats_files.write_nifti_case(root.parent / "brats", "C", volumes)
    with pytest.raises(BratsError, match=r"NIfTI volumes \(.*\) and a data set of nnU-Net"):
        open_source(str(root.parent))
