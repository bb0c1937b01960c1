import gzip

import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.scans.volumes import check_volume, read_volume
from brats_jax.errors import BratsError

VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
RAS = np.diag([2.0, 3.0, 4.0, 1.0])


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_both_versions_of_nifti_are_read(tmp_path, kind, name):
    nib.save(kind(VOXELS, RAS), tmp_path / name)
    volume = read_volume(str(tmp_path / name))
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_array_equal(volume.affine, RAS)
    assert isinstance(volume.header, kind.header_class)
    assert volume.codes == "RAS" and volume.size_text == "2 x 3 x 4"


def test_a_gzip_file_is_checked_to_its_last_byte(tmp_path):
    raw = nib.Nifti1Image(VOXELS, RAS).to_bytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(raw[:100]) + gzip.compress(raw[100:]))  # two members
    np.testing.assert_array_equal(read_volume(str(path)).voxels, VOXELS)
    whole = bytearray(gzip.compress(raw))
    whole[-6] ^= 1  # of the checksum
    path.write_bytes(whole)
    with pytest.raises(BratsError, match=r"a\.nii\.gz cannot be read .*: fetch it again"):
        read_volume(str(path))


@pytest.mark.parametrize(
    ("voxels", "affine", "message"),
    [
        (np.zeros((2, 2, 2, 2)), RAS, "not one volume of numbers"),
        (np.full((2, 2, 2), np.inf), RAS, "not finite"),
        (np.full((2, 2, 2), 1e39), RAS, "beyond 32-bit floats"),
        (VOXELS, np.zeros((4, 4)), "affine that cannot be inverted"),
    ],
)
def test_unfit_volumes_are_refused(voxels, affine, message):
    with pytest.raises(BratsError, match=message):
        check_volume("a.nii", voxels, affine, None)


def test_an_axis_of_length_one_is_removed():
    assert check_volume("a.nii", VOXELS[..., None], RAS, None).voxels.shape == (2, 3, 4)
