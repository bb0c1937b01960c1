import pickle

import h5py
import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.kaggle import KaggleSource
from brats_jax.errors import BratsError


def opened(root, order=None):
    return KaggleSource(root, folder_files(root), order)


@pytest.fixture(scope="module")
def volumes(brats_files):
    return brats_files.make_case()


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_slices_of_a_volume_make_a_case(tmp_path, brats_files, volumes, compression):
    brats_files.write_kaggle(tmp_path, 12, volumes, compression=compression)
    source = pickle.loads(pickle.dumps(opened(tmp_path)))
    assert source.patients() == ["BraTS20_Training_012"]
    case = source.read("BraTS20_Training_012")
    np.testing.assert_array_equal(case.labels, np.moveaxis(volumes["seg"], 2, 0))
    assert case.slice_numbers.tolist() == list(range(8))
    for channel, name in enumerate(MODALITIES):
        for number in range(8):
            np.testing.assert_array_equal(
                case.images[number, ..., channel],
                brats_files.z_scored(volumes[name][:, :, number]),
            )
    assert case.affine is None and case.spacing_mm == (1.0, 1.0, 1.0)
    assert case.provenance["hdf5_filters"] == [compression or "none"]
    assert case.provenance["files"] == "8 of volume_12_slice_*.h5"
    assert source.notices() == ["no metadata table: labels are not cross-checked"]


def test_channel_order_is_looked_up_by_name(tmp_path, brats_files, volumes):
    brats_files.write_kaggle(tmp_path, 1, volumes, order=("t2", "t1gd", "flair", "t1"))
    case = opened(tmp_path, ["T2", "t1ce", "FLAIR", "t1"]).read("BraTS20_Training_001")
    np.testing.assert_array_equal(
        case.images[4, ..., 1], brats_files.z_scored(volumes["t1gd"][:, :, 4])
    )


@pytest.mark.parametrize("order", [["t1", "t2"], ["t1", "t1", "t2", "flair"], ["t1", "x", "y"]])
def test_a_wrong_channel_order_is_refused(tmp_path, order):
    with pytest.raises(BratsError, match="flair"):
        opened(tmp_path, order)


def test_a_modality_that_is_zero_in_every_slice_is_refused(tmp_path, brats_files, volumes):
    brats_files.write_kaggle(tmp_path, 3, {**volumes, "t2": np.zeros_like(volumes["t2"])})
    with pytest.raises(BratsError, match=r"t2 of BraTS20_Training_003 is all zero: fetch"):
        opened(tmp_path).read("BraTS20_Training_003")


def test_a_part_of_a_volume_is_read(tmp_path, brats_files, volumes):
    brats_files.write_kaggle(tmp_path, 3, volumes, slices=(6, 2, 5))
    case = opened(tmp_path).read("BraTS20_Training_003")
    assert case.slice_numbers.tolist() == [2, 5, 6]
    np.testing.assert_array_equal(case.labels[2], volumes["seg"][:, :, 6])


def test_labels_are_compared_with_the_metadata(tmp_path, brats_files, volumes):
    brats_files.write_kaggle(tmp_path, 1, volumes, slices=range(6))
    brats_files.write_kaggle(tmp_path, 3, volumes, slices=(0,))
    brats_files.write_kaggle_tables(tmp_path, {1: volumes, 2: volumes})
    source = opened(tmp_path)
    tables = "BraTS20 Training Metadata.csv, meta_data.csv"
    assert source.notices() == [
        f"labels are cross-checked with {tables}",
        f"1 volumes listed in {tables} are not here",
        "2 slices of volumes that are here are listed but not here",
        f"1 slice files are not listed in {tables}",
    ]
    case = source.read("BraTS20_Training_001")
    assert len(case.labels) == 6 and case.provenance["grade"] == "HGG"


@pytest.mark.parametrize("column, to", [("label1_pxl_cnt", "3"), ("target", "0")])
def test_metadata_that_contradict_a_mask_are_refused(tmp_path, brats_files, volumes, column, to):
    files = brats_files.write_kaggle(tmp_path, 1, volumes)
    table = brats_files.write_kaggle_tables(tmp_path, {1: volumes})
    lines = table.read_text().splitlines()
    at = lines[0].split(",").index(column)
    cells = lines[5].split(",")
    cells[at] = to
    lines[5] = ",".join(cells)
    table.write_text("\n".join(lines))
    if column == "target":
        # The other table would contradict this one.
        (files[0].parent / "meta_data.csv").unlink()
    with pytest.raises(BratsError) as error:
        opened(tmp_path).read("BraTS20_Training_001")
    assert str(files[4]) in str(error.value) and table.name in str(error.value)


def test_tables_that_contradict_each_other_are_refused(tmp_path, brats_files, volumes):
    brats_files.write_kaggle(tmp_path, 1, volumes)
    table = brats_files.write_kaggle_tables(tmp_path, {1: volumes})
    table.write_text(table.read_text().replace("slice_0.h5,0,", "slice_0.h5,1,"))
    with pytest.raises(BratsError, match=r"contradicts .* on volume_1_slice_0.h5"):
        opened(tmp_path)


def test_other_tables_are_ignored(tmp_path, brats_files, volumes):
    brats_files.write_kaggle(tmp_path, 1, volumes)
    (tmp_path / "survival_info.csv").write_text("Brats20ID,Age\nBraTS20_Training_001,60.4\n")
    assert opened(tmp_path).read("BraTS20_Training_001").labels.any()


def rewrite(path, **changes):
    with h5py.File(path, "r") as file:
        sets = {name: file[name][()] for name in ("image", "mask")}
    sets.update(changes)
    with h5py.File(path, "w") as file:
        for name, value in sets.items():
            if value is not None:
                file[name] = value


def test_copies_in_single_precision_are_read(tmp_path, brats_files, volumes):
    files = brats_files.write_kaggle(tmp_path, 1, volumes)
    before = opened(tmp_path).read("BraTS20_Training_001").images
    for path in files:
        with h5py.File(path, "r") as file:
            image = file["image"][()].astype(np.float32)
        rewrite(path, image=image)
    images = opened(tmp_path).read("BraTS20_Training_001").images
    assert images.dtype == np.float64
    np.testing.assert_allclose(images, before, rtol=1e-6)


OVERLAP = np.ones((24, 20, 3), dtype=np.uint8)
TWOS = np.eye(3, dtype=np.uint8)[np.zeros((24, 20), dtype=int)] * 2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mask": None}, "has no data set 'mask'"),
        ({"image": np.zeros((24, 20, 3))}, r"not \[H, W, 4\]"),
        ({"image": np.full((24, 20, 4), np.nan)}, "not finite"),
        ({"mask": OVERLAP}, "480 pixels in more than one mask channel"),
        ({"mask": TWOS}, r"mask values \[0, 2\]"),
        (
            {"image": np.zeros((8, 8, 4)), "mask": np.zeros((8, 8, 3), dtype=np.uint8)},
            "is 8 x 8, other slices of its volume are 24 x 20",
        ),
    ],
)
def test_files_without_a_slice_are_refused(tmp_path, brats_files, volumes, changes, message):
    files = brats_files.write_kaggle(tmp_path, 1, volumes)
    rewrite(files[5], **changes)
    with pytest.raises(BratsError, match=message) as error:
        opened(tmp_path).read("BraTS20_Training_001")
    assert str(files[5]) in str(error.value)


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("size", [0, 100, -300])
def test_a_truncated_file_is_refused(tmp_path, brats_files, volumes, compression, size):
    files = brats_files.write_kaggle(tmp_path, 1, volumes, compression=compression)
    files[5].write_bytes(files[5].read_bytes()[:size])
    with pytest.raises(BratsError, match="cannot be read") as error:
        opened(tmp_path).read("BraTS20_Training_001")
    assert str(files[5]) in str(error.value)


def test_two_files_of_one_slice_are_refused(tmp_path, brats_files, volumes):
    brats_files.write_kaggle(tmp_path / "a", 1, volumes, slices=(4,))
    brats_files.write_kaggle(tmp_path / "b", 1, volumes, slices=(4,))
    source = opened(tmp_path)
    assert "same slice" in source.problems()["BraTS20_Training_001"]
    with pytest.raises(BratsError, match="move one of them out of the folder"):
        source.read("BraTS20_Training_001")
