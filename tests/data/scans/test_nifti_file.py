import gzip
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from brats_jax.data.scans.nifti_file import check_case_size, read_nifti, slice_shape_of
from brats_jax.errors import BratsError

VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


@pytest.fixture
def raw():
    image = nib.Nifti1Image(VOXELS, np.eye(4))
    image.header.set_slope_inter(1, 0)
    return bytearray(image.to_bytes())


def declare(raw, shape):
    raw[42 : 42 + 2 * len(shape)] = np.array(shape, "<i2").tobytes()
    return raw


def test_the_scale_of_the_header_is_applied_as_by_nibabel(tmp_path):
    image = nib.Nifti1Image(VOXELS, np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, tmp_path / "a.nii.gz")
    expected = np.asanyarray(nib.load(tmp_path / "a.nii.gz").dataobj)
    header, voxels = read_nifti(str(tmp_path / "a.nii.gz"), 1)
    np.testing.assert_array_equal(voxels, expected)
    assert voxels.dtype == expected.dtype and header.get_data_shape() == (2, 3, 4)


# The second: x runs to Anterior, y to Superior, z to Right.
@pytest.mark.parametrize("affine", [np.eye(4), np.eye(4)[[2, 0, 1, 3]]])
def test_the_header_tells_the_shape_of_axial_slices(tmp_path, affine):
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(VOXELS, affine), path)
    expected = nib.as_closest_canonical(nib.load(path)).shape[:2]
    assert slice_shape_of(str(path), 1) == expected
    path.write_bytes(path.read_bytes()[:20])
    assert slice_shape_of(str(path), 1) is None
    assert slice_shape_of(str(tmp_path / "none.nii"), 1) is None


def test_no_more_is_allocated_than_the_bytes_of_a_file_can_hold(tmp_path, raw):
    path = tmp_path / "a.nii"
    small = tmp_path / "b.nii.gz"
    path.write_bytes(declare(raw, (2000, 2000, 400)))
    small.write_bytes(gzip.compress(bytes(raw)))
    tracemalloc.start()
    for file in (path, small):
        with pytest.raises(BratsError, match="bytes cannot hold the 3,200,000,352 that its header"):
            read_nifti(str(file), 100)
        with pytest.raises(BratsError, match="cannot hold"):
            check_case_size([str(file)], 100)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_a_file_that_unpacks_to_far_more_than_its_header_declares_is_refused(tmp_path, raw):
    bomb = tmp_path / "a.nii.gz"
    packed = gzip.compress(bytes(raw) + bytes(50_000_000))
    bomb.write_bytes(packed[:-4] + len(raw).to_bytes(4, "little"))  # with a length that is a lie
    tracemalloc.start()
    with pytest.raises(BratsError, match="unpacks to more than the 400 bytes of its header"):
        read_nifti(str(bomb), 4)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_a_volume_above_the_limit_is_refused_by_its_header(tmp_path, raw):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(bytes(declare(raw, (300, 300, 100))) + bytes(18_000_000)))
    read_nifti(str(path), 0.1)
    with pytest.raises(BratsError, match=r"takes 0\.0\d+ GB in memory, more than 0\.02 GB"):
        read_nifti(str(path), 0.02)
    check_case_size([str(path)] * 2, 0.1)
    with pytest.raises(BratsError, match="--max_case_gb"):
        check_case_size([str(path)] * 3, 0.1)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (42, b"\xff\xff", "declares a volume of -1 x 3 x 4"),
        (42, b"\x00\x00", "declares a volume of 0 x 3 x 4"),
        (344, b"ni1\0", "in another file"),
        (344, b"\0\0\0\0", "magic string"),
        (108, np.float32(np.nan).tobytes(), "cannot be read"),
        (108, np.float32(1e30).tobytes(), "cannot"),
        (70, b"\x77\x77", "data code"),
        (112, np.float32(np.inf).tobytes(), "cannot be read"),
    ],
    ids=["negative", "empty", "pair", "magic", "offset NaN", "offset", "type", "scale"],
)
def test_headers_that_cannot_be_right_are_one_line(tmp_path, raw, at, value, message):
    raw[at : at + len(value)] = value
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(BratsError, match=message) as error:
        read_nifti(str(tmp_path / "a.nii"), 4)
    assert "\n" not in str(error.value) and "a.nii" in str(error.value)
