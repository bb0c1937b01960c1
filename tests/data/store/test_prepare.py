import errno
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.store import writer
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError


@pytest.fixture(scope="module")
def volumes(brats_files):
    return brats_files.make_case()


@pytest.fixture
def source(tmp_path, brats_files):
    for seed in range(3):
        brats_files.write_nifti_case(
            tmp_path / "source", f"P{seed}", brats_files.make_case(seed), suffix=".nii"
        )
    return tmp_path / "source"


def files_below(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def assert_same_to_float16(one: np.ndarray, other: np.ndarray) -> None:
    """Equal up to the last place: rounding may go either way from inputs that differ by 1e-16."""
    step = np.spacing(np.maximum(np.abs(one), np.abs(other)).astype(np.float16))
    difference = np.abs(one.astype(np.float64) - other.astype(np.float64))
    assert (difference <= step.astype(np.float64)).all()
    assert (difference == 0).mean() > 0.99


def test_a_phantom_is_prepared(tmp_path):
    manifest = prepare(
        "phantom", tmp_path / "store", patients=1, seed=1, shape=(16, 32, 32), workers=1
    )
    store = Store.open(tmp_path / "store")
    assert store.num_slices == 16 and store.slice_shape == (32, 32)
    assert manifest.source == {
        "kind": "phantom",
        "patients": 1,
        "seed": 1,
        "shape": [16, 32, 32],
    }


def test_the_manifest_describes_the_store(source, tmp_path):
    manifest = prepare(source, tmp_path / "store", workers=1)
    assert manifest.patients == ("P0", "P1", "P2")
    assert manifest.normalisation == "slice" and manifest.orientation == "LPS"
    assert manifest.audit.verdict == "confirmed" and not manifest.audit.ignored
    assert manifest.audit.contrast["t1gd"] > 0.5
    summary = manifest.summary
    assert summary.patients == 3 and summary.slices == 24
    assert sum(summary.pixels_per_class) == 24 * 24 * 20
    assert all("its labels equal those of" in line for (line,) in manifest.notes.values())
    store = Store.open(tmp_path / "store")
    assert summary.tumour_slices == store.has_tumour.sum()
    assert summary.slices_per_class == tuple((store.pixels > 0).sum(axis=0).tolist())
    assert files_below(tmp_path / "store") == sorted([*manifest.files, "manifest.json"])
    assert store.manifest == manifest


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
def test_kaggle_and_nifti_give_the_same_store(tmp_path, brats_files, compression):
    volumes = brats_files.make_case(5, shape=(40, 36, 10))
    # A slice with a single bright pixel: constant once clipped.
    for number, name in enumerate(MODALITIES):
        volumes[name][7, 9, 0] = 100 + number
    brats_files.write_nifti_case(tmp_path / "n", "BraTS20_Training_004", volumes, "2020")
    brats_files.write_kaggle(tmp_path / "k", 4, volumes, compression=compression)
    brats_files.write_kaggle_tables(tmp_path / "k", {4: volumes})
    stores = []
    for kind in ("n", "k"):
        prepare(tmp_path / kind, tmp_path / f"store {kind}", workers=1)
        stores.append(Store.open(tmp_path / f"store {kind}"))
    one, other = stores
    assert one.patients == other.patients == ["BraTS20_Training_004"]
    for name in ("patient_of", "slice_number", "pixels", "tumour_offsets", "tumour_pixels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert_same_to_float16(one.read(range(10))[0], other.read(range(10))[0])
    assert not one.read([0])[0].any() and one.read([5])[0].any()


def test_volume_normalisation_needs_intensities_that_compare(tmp_path, brats_files, volumes):
    brats_files.write_kaggle(tmp_path / "k", 4, volumes)
    with pytest.raises(BratsError, match=r"z-scored slice by slice .* --normalisation=slice"):
        prepare(tmp_path / "k", tmp_path / "store", normalisation="volume")
    assert not (tmp_path / "store").exists()


def test_volumes_are_normalised_over_the_brain(source, tmp_path):
    prepare(source, tmp_path / "store", normalisation="volume", workers=1)
    images = Store.open(tmp_path / "store").read(range(8))[0].astype(np.float64)
    brain = (images != 0).any(axis=-1)
    np.testing.assert_allclose(images[brain].mean(axis=0), 0, atol=2e-3)
    np.testing.assert_allclose(images[brain].std(axis=0), 1, atol=2e-3)


def test_wrong_channel_order_is_found_and_the_right_one_named(tmp_path, brats_files, volumes):
    brats_files.write_kaggle(tmp_path / "k", 4, volumes)
    wrong = ["t1", "t1ce", "t2", "flair"]
    with pytest.raises(BratsError, match="--channel_order=flair,t1,t1gd,t2 would fit"):
        prepare(tmp_path / "k", tmp_path / "store", channel_order=wrong, workers=1)
    assert not (tmp_path / "store").exists()
    manifest = prepare(
        tmp_path / "k", tmp_path / "store", channel_order=wrong, workers=1, ignore_audit=True
    )
    assert manifest.audit.verdict == "contradicted" and manifest.audit.ignored
    assert manifest.audit.looks_like_t1gd == "t2"


def test_a_wrong_channel_order_is_found_before_everything_is_read(tmp_path, brats_files, volumes):
    for volume in range(1, 31):
        (file,) = brats_files.write_kaggle(tmp_path / "k", volume, volumes, slices=(4,))
        if volume in (2, 30):  # not among the first to be read
            file.write_bytes(b"unreadable")
    with pytest.raises(BratsError, match="would fit"):
        prepare(
            tmp_path / "k",
            tmp_path / "store",
            channel_order=["t1", "t1ce", "t2", "flair"],
            workers=1,
        )


def test_a_finished_store_is_left_alone(source, tmp_path):
    prepare(source, tmp_path / "store", workers=1)
    before = {
        name: (tmp_path / "store" / name).stat().st_mtime_ns
        for name in files_below(tmp_path / "store")
    }
    said = []
    prepare(source, tmp_path / "store", workers=1, say=said.append)
    assert said == [f"{tmp_path / 'store'} is complete: nothing to do"]
    for name, time in before.items():
        assert (tmp_path / "store" / name).stat().st_mtime_ns == time
    with pytest.raises(BratsError, match="normalisation was slice, now volume"):
        prepare(source, tmp_path / "store", normalisation="volume")
    shutil.rmtree(source / "P1")
    with pytest.raises(BratsError, match="complete with 3 patients, the source now has 2"):
        prepare(source, tmp_path / "store")


def test_preparation_continues_after_a_bad_case_is_repaired(source, tmp_path):
    good = (source / "P1" / "P1_t2.nii").read_bytes()
    (source / "P1" / "P1_t2.nii").write_bytes(good[:-100])
    with pytest.raises(BratsError, match=r"P1_t2.nii cannot be read .*1 finished case kept"):
        prepare(source, tmp_path / "store", workers=1)
    assert files_below(tmp_path / "store") == [
        "cases/P0.images.npy",
        "cases/P0.json",
        "cases/P0.labels.npy",
        "preparation.json",
    ]
    with pytest.raises(BratsError, match="is not finished"):
        Store.open(tmp_path / "store")
    with pytest.raises(BratsError, match="normalisation was slice, now volume"):
        prepare(source, tmp_path / "store", normalisation="volume")
    time = (tmp_path / "store/cases/P0.images.npy").stat().st_mtime_ns
    (source / "P1" / "P1_t2.nii").write_bytes(good)
    prepare(source, tmp_path / "store", workers=1)
    assert (tmp_path / "store/cases/P0.images.npy").stat().st_mtime_ns == time
    prepare(source, tmp_path / "fresh", workers=1)
    assert Store.open(tmp_path / "store").fingerprint == Store.open(tmp_path / "fresh").fingerprint


def test_a_changed_case_is_read_again(source, tmp_path, brats_files, volumes):
    bad = source / "P2" / "P2_t1.nii"
    good = bad.read_bytes()
    bad.write_bytes(b"")
    with pytest.raises(BratsError, match="2 finished"):
        prepare(source, tmp_path / "store", workers=1)
    bad.write_bytes(good)
    brats_files.write_nifti_case(source, "P0", brats_files.make_case(9), suffix=".nii")
    shutil.rmtree(source / "P1")
    prepare(source, tmp_path / "store", workers=1)
    store = Store.open(tmp_path / "store")
    assert store.patients == ["P0", "P2"]
    assert not any("P1" in name for name in files_below(tmp_path / "store"))
    prepare(source, tmp_path / "fresh", workers=1)
    assert store.fingerprint == Store.open(tmp_path / "fresh").fingerprint


def test_bad_cases_can_be_left_out(source, tmp_path, brats_files):
    (source / "P1" / "P1_t2.nii").write_bytes(b"")
    (source / "P2" / "P2_seg.nii").unlink()
    brats_files.write_nifti_case(source, "P9", brats_files.make_case(0, shape=(20, 20, 8)))
    strict = {"workers": 1, "options": ReadOptions(require_labels=True)}
    with pytest.raises(BratsError, match=r"P2 has no labels .* --skip_bad_cases"):
        prepare(source, tmp_path / "store", **strict)
    assert not (tmp_path / "store").exists()
    manifest = prepare(source, tmp_path / "store", skip_bad_cases=True, **strict)
    assert manifest.patients == ("P0",)
    assert "P1_t2.nii cannot be read" in manifest.skipped["P1"]
    assert "no labels" in manifest.skipped["P2"]
    assert (
        "P9_flair.nii.gz has slices of 20 x 20, those of P0 are 24 x 20" in (manifest.skipped["P9"])
    )
    assert len(files_below(tmp_path / "store/cases")) == 3


def test_a_source_without_a_fit_case_is_refused(source, tmp_path):
    for path in source.rglob("*_t1.nii"):
        path.write_bytes(b"")
    with pytest.raises(BratsError, match="no case is fit"):
        prepare(source, tmp_path / "store", workers=1, skip_bad_cases=True)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_slices_of_another_shape_are_refused(source, tmp_path, brats_files, workers):
    brats_files.write_nifti_case(source, "P9", brats_files.make_case(0, shape=(20, 20, 8)))
    with pytest.raises(
        BratsError, match=r"P\d_flair.nii(.gz)? has slices of .* prepare them in two stores"
    ):
        prepare(source, tmp_path / "store", workers=workers)


def test_a_folder_with_other_files_is_refused(source, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.tex").touch()
    with pytest.raises(BratsError, match="holds other files"):
        prepare(source, tmp_path / "store")
    assert files_below(tmp_path / "store") == ["thesis.tex"]
    with pytest.raises(BratsError, match="is a file"):
        prepare(source, tmp_path / "store" / "thesis.tex")


def test_a_store_is_written_by_one_process_at_a_time(source, tmp_path):
    with (
        writer.sole_writer(tmp_path / "store"),
        pytest.raises(BratsError, match=r"store: in use by .*, process \d+; wait for"),
    ):
        prepare(source, tmp_path / "store")
    prepare(source, tmp_path / "store", workers=1)


@pytest.mark.parametrize("name", ["P1.images.npy", "P0.json", "index.npz", "manifest.json"])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full disk to write to")
def test_a_full_disk_is_one_line(source, tmp_path, monkeypatch, name):
    mkstemp = tempfile.mkstemp

    def full(prefix, dir):
        descriptor, path = mkstemp(prefix=prefix, dir=dir)
        if name in prefix:
            os.close(descriptor)
            descriptor = os.open("/dev/full", os.O_RDWR)
        return descriptor, path

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", full)
        for skip in (False, True):  # a full disk is no bad case
            with pytest.raises(BratsError, match="no space is left: free some") as error:
                prepare(source, tmp_path / "store", workers=1, skip_bad_cases=skip)
            assert name in str(error.value)
            if not (tmp_path / "store").exists():
                continue
            for left in files_below(tmp_path / "store"):
                assert not Path(left).name.startswith(".")
            assert not (tmp_path / "store/manifest.json").exists()
    prepare(source, tmp_path / "store", workers=1)
    Store.open(tmp_path / "store")


def test_other_errors_of_the_disk_are_one_line(tmp_path):
    with pytest.raises(BratsError, match="Permission denied"), writer.disk_errors(tmp_path):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize(
    "options, message",
    [({"normalisation": "sllice"}, "valid: slice, volume"), ({"workers": 0}, "at least 1")],
)
def test_bad_options_are_refused(source, tmp_path, options, message):
    with pytest.raises(BratsError, match=message):
        prepare(source, tmp_path / "store", **options)


@pytest.mark.real
@pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="BRATS_REAL_DATA is not set")
def test_a_real_case_as_kaggle_files_gives_the_same_store(tmp_path, brats_files):
    nib = pytest.importorskip("nibabel")
    case = next(Path(os.environ["BRATS_REAL_DATA"]).glob("BraTS2021_01479"))
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / case.name).symlink_to(case)
    prepare(tmp_path / "n", tmp_path / "nifti", workers=1)
    reference = Store.open(tmp_path / "nifti")
    names = {"t1": "t1", "t1gd": "t1ce", "t2": "t2", "flair": "flair", "seg": "seg"}
    volumes = {
        name: np.asarray(nib.load(case / f"{case.name}_{file}.nii.gz").dataobj)
        for name, file in names.items()
    }
    volumes["seg"] = np.where(volumes["seg"] == 4, 3, volumes["seg"])
    slices = list(range(0, 155, 11))
    for compression in (None, "gzip", "lzf"):
        folder = tmp_path / f"kaggle {compression}"
        brats_files.write_kaggle(folder, 1, volumes, compression=compression, slices=slices)
        prepare(folder, tmp_path / f"store {compression}", workers=1)
        store = Store.open(tmp_path / f"store {compression}")
        images, labels = store.read(range(len(slices)))
        expected, expected_labels = reference.read(slices)
        np.testing.assert_array_equal(labels, expected_labels)
        assert_same_to_float16(images, expected)
