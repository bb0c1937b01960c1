import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.case_files import group_by_case
from brats_jax.data.scans.scan import read_scan
from brats_jax.data.scans.truth import read_truth
from brats_jax.data.sources.base import folder_files


@pytest.fixture
def case(tmp_path, brats_files):
    volumes = brats_files.make_case()
    paths = brats_files.write_nifti_case(tmp_path, "BraTS2021_00001", volumes)
    (found,) = group_by_case(folder_files(tmp_path)).values()
    return volumes, paths, read_scan(found, MODALITIES)


def test_true_labels_are_read_from_the_folder_of_the_images(case):
    volumes, _, scan = case
    np.testing.assert_array_equal(read_truth(scan), np.moveaxis(volumes["seg"], 2, 0))


def test_without_labels_there_is_no_truth(case):
    _, paths, scan = case
    paths["seg"].unlink()
    assert read_truth(scan) is None


def test_predictions_are_no_truth(case):
    _, paths, scan = case
    image = nib.load(paths["seg"])
    image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
    image.header["descrip"] = b"brats_jax 0.1.0"
    nib.save(image, paths["seg"])
    assert read_truth(scan) is None
