import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.case_files import group_by_case
from brats_jax.data.scans.scan import read_scan
from brats_jax.data.scans.writing import fraction_image, label_image, number_image, write_image
from brats_jax.data.sources.base import folder_files


@pytest.fixture
def scan(tmp_path, brats_files):
    brats_files.write_nifti_case(tmp_path, "A", brats_files.make_case(), codes="RAS")
    (found,) = group_by_case(folder_files(tmp_path)).values()
    return read_scan(found, MODALITIES)


def test_labels_are_on_the_grid_of_the_input(tmp_path, scan):
    labels = np.zeros(scan.header.get_data_shape(), np.uint8)
    labels[3, 4, 5] = 4
    path = tmp_path / "a.nii.gz"
    write_image(path, label_image(scan, labels, "a note"))
    written = nib.load(path)
    np.testing.assert_array_equal(written.affine, scan.input_affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels)
    assert written.get_data_dtype() == scan.header.get_data_dtype() == np.int16
    assert bytes(written.header["descrip"]).startswith(b"a note")
    first = path.read_bytes()
    write_image(path, label_image(scan, labels, "a note"))
    assert path.read_bytes() == first


def test_fractions_are_exact_to_their_step(scan):
    rng = np.random.default_rng(0)
    numbers = rng.uniform(0, 1.4, scan.header.get_data_shape()).astype(np.float32)
    image = fraction_image(scan, numbers, 1.4, "")
    raw = nib.Nifti1Image.from_bytes(image.to_bytes())
    np.testing.assert_allclose(raw.get_fdata(), numbers, atol=1.4 / 65_535)
    assert raw.get_data_dtype() == np.uint16


def test_numbers_are_float32(scan):
    numbers = np.full(scan.header.get_data_shape(), -1.5)
    image = nib.Nifti1Image.from_bytes(number_image(scan, numbers, "").to_bytes())
    assert image.get_data_dtype() == np.float32 and (image.get_fdata() == -1.5).all()


def test_only_the_geometry_of_the_header_is_copied(scan):
    scan.header["db_name"] = b"a patient's name"
    assert b"patient" not in number_image(scan, np.zeros((24, 20, 8)), "").to_bytes()[:348]
