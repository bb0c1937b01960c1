import json
import pickle

import numpy as np
import pytest

from brats_jax.data.store.layout import MANIFEST, PREPARATION
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store, verify
from brats_jax.errors import BratsError


@pytest.fixture(scope="module")
def volumes(brats_files):
    return {f"P{i}": brats_files.make_case(i, shape=(24, 20, 6 + i)) for i in range(3)}


@pytest.fixture
def path(tmp_path, brats_files, volumes):
    for name, case in volumes.items():
        brats_files.write_nifti_case(tmp_path / "source", name, case)
    prepare(tmp_path / "source", tmp_path / "store", workers=1)
    return tmp_path / "store"


def test_the_index_agrees_with_the_labels(path, volumes):
    store = Store.open(path)
    assert store.patients == store.subjects == ["P0", "P1", "P2"]
    assert store.slice_shape == (24, 20) and store.num_slices == 6 + 7 + 8
    assert store.patient_of.dtype == np.int32 and store.slice_number.dtype == np.int16
    assert store.pixels.dtype == np.int32 and store.tumour_offsets.dtype == np.int64
    assert store.tumour_pixels.dtype == np.uint16
    expected = [(p, k) for p, name in enumerate(volumes) for k in range(6 + p)]
    assert list(zip(store.patient_of, store.slice_number, strict=True)) == expected
    for index, (patient, number) in enumerate(expected):
        seg = volumes[f"P{patient}"]["seg"][:, :, number]
        np.testing.assert_array_equal(store.read([index])[1][0], seg)
        assert store.pixels[index].tolist() == np.bincount(seg.ravel(), minlength=4).tolist()
        start, stop = store.tumour_offsets[index : index + 2]
        np.testing.assert_array_equal(store.tumour_pixels[start:stop], np.flatnonzero(seg))
        assert store.has_tumour[index] == seg.any()
    assert store.tumour_offsets[-1] == len(store.tumour_pixels)
    assert store.slices_of("P1") == range(6, 13)


def test_the_pixels_of_a_class_are_those_of_the_labels(path):
    store = Store.open(path)
    _, labels = store.read(np.arange(store.num_slices))
    found = 0
    for index in range(store.num_slices):
        for number in (1, 2, 3):
            pixels = store.pixels_of_class(index, number)
            np.testing.assert_array_equal(pixels, np.flatnonzero(labels[index] == number))
            assert len(pixels) == store.pixels[index, number]
            found += len(pixels) > 0
    assert found > 3


def test_slices_and_windows_are_read_by_index(path):
    store = Store.open(path)
    images, labels = store.read([9, 0, 9])
    assert images.shape == (3, 24, 20, 4) and images.dtype == np.float16
    assert labels.shape == (3, 24, 20) and labels.dtype == np.uint8
    one, classes_of_one = store.read([9])
    np.testing.assert_array_equal(images[[0, 2]], np.concatenate([one, one]))
    np.testing.assert_array_equal(labels[2], classes_of_one[0])
    assert not np.array_equal(images[0], images[1])
    rows, columns = np.array([3, 0]), np.array([10, 2])
    cut, classes = store.windows(np.array([9, 12]), rows, columns, (20, 10))
    np.testing.assert_array_equal(cut[0], images[0][3:23, 10:])
    np.testing.assert_array_equal(classes[1], store.read([12])[1][0, :20, 2:12])
    flat, flat_labels = store.flat(9)
    row, column, height, width = store.box[9]
    inside = (slice(row, row + height), slice(column, column + width))
    np.testing.assert_array_equal(flat, images[0][inside].reshape(-1, 4))
    np.testing.assert_array_equal(flat_labels, labels[0][inside].ravel())
    assert not flat.flags.owndata and not flat.flags.writeable  # a view of the file
    for wrong in (-1, store.num_slices):
        with pytest.raises(IndexError):
            store.read([wrong])
    case = store.case("P1")
    assert case.spacing_mm == (1.0, 1.0, 1.0) and case.slice_numbers == tuple(range(7))
    with pytest.raises(BratsError, match="no patient 'P9'"):
        store.case("P9")


def test_labels_outside_of_the_head_are_kept(tmp_path, brats_files):
    """The box of a slice holds head and labels, and nothing else is stored."""
    shape = (24, 20, 3)
    volumes = {name: np.zeros(shape, np.int16) for name in ("t1", "t1gd", "t2", "flair")}
    for volume in volumes.values():
        volume[5:15, 5:15, 1] = np.arange(100).reshape(10, 10) + 1
    seg = np.zeros(shape, np.uint8)
    seg[20, 17, 1] = seg[2, 2, 2] = 2
    brats_files.write_nifti_case(tmp_path / "source", "A", {**volumes, "seg": seg})
    for how in ("slice", "volume"):
        prepare(tmp_path / "source", tmp_path / how, normalisation=how, workers=1)
        store = Store.open(tmp_path / how)
        assert store.box.tolist() == [[0, 0, 0, 0], [5, 5, 16, 13], [2, 2, 1, 1]]
        assert np.load(tmp_path / how / "cases/A.images.npy").shape == (16 * 13 + 1, 4)
        images, labels = store.read(range(3))
        np.testing.assert_array_equal(labels, np.moveaxis(seg, 2, 0))
        assert store.tumour_pixels.tolist() == [20 * 20 + 17, 2 * 20 + 2]
        head = (slice(5, 15), slice(5, 15))
        z = np.minimum(np.arange(100) + 1, np.percentile(np.arange(100) + 1, 99.5))
        if how == "slice":
            flat = np.zeros((24, 20))
            flat[head] = np.arange(100).reshape(10, 10) + 1
            flat = np.minimum(flat, np.percentile(flat, 99.5))
            z = ((flat - flat.mean()) / flat.std())[head].ravel()
            assert (images[1, 0, 0] == np.float16(-flat.mean() / flat.std())).all()
        else:
            z = (z - z.mean()) / z.std()
            assert not images[1, 0, 0].any()
        np.testing.assert_array_equal(images[1][head][..., 2].ravel(), z.astype(np.float16))
        assert (images[1] == images[1, 0, 0]).all(-1).sum() == 24 * 20 - 100


def test_a_store_pickles_without_its_arrays(path):
    store = Store.open(path)
    image = store.read([3])[0]
    assert len(store.tumour_pixels)
    data = pickle.dumps(store)
    assert len(data) < 20_000
    np.testing.assert_array_equal(pickle.loads(data).read([3])[0], image)


def test_the_fingerprint_depends_on_the_contents_alone(path, tmp_path):
    prepare(tmp_path / "source", tmp_path / "again", workers=2)
    prepare(tmp_path / "source", tmp_path / "other", normalisation="volume", workers=1)
    prints = [Store.open(p).fingerprint for p in (path, tmp_path / "again", tmp_path / "other")]
    assert prints[0] == prints[1] != prints[2]


def test_large_slices_have_32_bit_positions(tmp_path, brats_files):
    volumes = brats_files.make_case(0, shape=(260, 256, 3))
    volumes["seg"][255:, 100:130, 1] = 2
    brats_files.write_nifti_case(tmp_path / "source", "A", volumes)
    prepare(tmp_path / "source", tmp_path / "store", workers=1)
    store = Store.open(tmp_path / "store")
    assert store.tumour_pixels.dtype == np.uint32
    start, stop = store.tumour_offsets[1:3]
    np.testing.assert_array_equal(
        store.tumour_pixels[start:stop], np.flatnonzero(volumes["seg"][:, :, 1])
    )


def change(path, **values):
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({**manifest, "sha256": "", **values}))


def test_a_missing_store_is_refused(tmp_path):
    with pytest.raises(BratsError, match=r"no store at .*brats_jax.prepare"):
        Store.open(tmp_path / "nowhere")


def test_an_unfinished_store_is_refused(path):
    (path / MANIFEST).rename(path / PREPARATION)
    with pytest.raises(BratsError, match="is not finished: give its prepare command again"):
        Store.open(path)


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"version": 1},
            r"not a version 2 brats_jax.store file .it says brats_jax.store 1.; prep",
        ),
        ({"schema": "splits"}, "not a version 2 brats_jax.store file .it says splits 2."),
        (
            {"modalities": ["t1", "t2"]},
            "the modalities are t1, t2, not t1, t1gd, t2, flair; prepare",
        ),
        ({"files": []}, "'files' is '.*', not an object; prepare"),
    ],
)
def test_other_versions_and_modalities_are_refused(path, values, message):
    change(path, **values)
    with pytest.raises(BratsError, match=message):
        Store.open(path)


def test_a_damaged_manifest_is_refused(path):
    (path / MANIFEST).write_text("{")
    with pytest.raises(BratsError, match="not valid JSON"):
        Store.open(path)


@pytest.mark.parametrize(
    "name", ["index.npz", "tumour_pixels.npy", "cases/P1.images.npy", "cases/P2.json"]
)
def test_missing_truncated_and_changed_files_are_refused(path, name):
    content = (path / name).read_bytes()
    assert verify(path) == 3 * 3 + 2
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    (path / name).write_bytes(changed)
    with pytest.raises(BratsError, match=f"{name} has changed"):
        verify(path)
    (path / name).write_bytes(content[:-1])
    with pytest.raises(BratsError, match=f"{name} has {len(content) - 1} bytes"):
        Store.open(path)
    (path / name).unlink()
    with pytest.raises(BratsError, match=f"{name} is missing"):
        Store.open(path)


def test_a_damaged_index_is_refused_in_one_line(path):
    """Every changed byte of the archive's directory is refused or harmless."""
    content = (path / "index.npz").read_bytes()
    refused = 0
    for at in range(len(content) - 250, len(content)):
        changed = bytearray(content)
        changed[at] ^= 0x41
        (path / "index.npz").write_bytes(changed)
        try:
            Store.open(path)
        except BratsError as error:
            refused += "or prepare the store again into another folder" in str(error)
    assert refused > 20
