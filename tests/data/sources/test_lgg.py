"""Kaggle's LGG slices."""

import re

import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.normalise import normalise
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.base import folder_files, state_of
from brats_jax.data.sources.lgg import LggSource, fitted
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError

CASE, OTHER = "TCGA_CS_4941_19960909", "TCGA_DU_6407_19860514"
T1, T1GD, T2, FLAIR = (MODALITIES.index(name) for name in ("t1", "t1gd", "t2", "flair"))


def opened(root):
    return LggSource(root, folder_files(root))


@pytest.fixture(scope="module")
def drawn(brats_files):
    return brats_files.lgg_slices()


@pytest.fixture
def written(tmp_path, brats_files):
    return brats_files.write_lgg(tmp_path / "kaggle_3m", CASE)


def test_a_case_has_its_channels_by_name_and_a_mask_of_the_whole_tumour(tmp_path, written, drawn):
    images, mask = drawn
    source = opened(tmp_path)
    assert source.patients() == [CASE] and not source.problems()
    case = source.read(CASE)
    assert case.present == ("t1", "t1gd", "flair") and case.label_kind == "whole_tumour"
    assert case.images.shape == (4, 240, 240, 4) and case.images.dtype == np.uint8
    assert not case.images[..., T2].any()
    # Rows run to Posterior, columns to Left: a store has Left first. The middle is kept.
    row, column = 70, 160
    for channel, k in ((T1, 0), (FLAIR, 1), (T1GD, 2)):
        np.testing.assert_array_equal(
            case.images[:, column - 8, row - 8, channel], images[:, row, column, k]
        )
    np.testing.assert_array_equal(case.labels, mask[:, 8:-8, 8:-8].swapaxes(1, 2))
    assert case.labels.dtype == np.uint8
    flair = case.images[1:, ..., FLAIR]
    assert flair[case.labels[1:] == 1].mean() > 1.5 * flair[case.labels[1:] == 0].mean()
    assert case.subject == "TCGA_CS_4941" and case.spacing_mm is None and case.affine is None
    assert case.slice_numbers.tolist() == [0, 1, 2, 3] and not case.notes


def test_air_is_0_so_that_both_normalisations_are_of_the_head(tmp_path, written, drawn):
    case = opened(tmp_path).read(CASE)
    assert (drawn[0][:, :8] > 0).any() and not case.images[:, :3, :3].any()
    for how in ("slice", "volume"):
        scores = normalise(case.images, how)[..., [T1, T1GD, FLAIR]].astype(np.float32)
        assert np.ptp(scores[:, 0, 0], axis=0).max() < 0.2
    head = (case.images != 0).any(axis=-1)
    np.testing.assert_allclose(scores[head].mean(axis=0), 0, atol=1e-2)
    assert 0.3 < head.mean() < 0.6


def copied(images, name):
    """The slices with T1Gd replaced."""
    flair = images[..., 1].astype(float)
    new = {
        "equal": flair,
        "rescaled": 20 + flair / 2,
        "compressed": flair + np.random.default_rng(0).normal(0, 2, flair.shape),
        "constant": np.full_like(flair, 9),
    }[name]
    return np.stack([images[..., 0], images[..., 1], new.clip(0, 255).astype(np.uint8)], axis=-1)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("equal", "T1Gd is a copy of FLAIR: taken as missing"),
        ("rescaled", r"T1Gd is an altered copy \(correlation 1.000\) of FLAIR"),
        ("compressed", r"T1Gd is an altered copy \(correlation 0.9\d+\) of FLAIR"),
        ("constant", "T1Gd is 9 everywhere: taken as missing"),
    ],
)
def test_a_copy_of_flair_is_a_missing_modality(tmp_path, brats_files, drawn, name, note):
    brats_files.write_lgg(tmp_path, CASE, copied(drawn[0], name))
    case = opened(tmp_path).read(CASE)
    assert case.present == ("t1", "flair") and not case.images[..., [T1GD, T2]].any()
    assert len(case.notes) == 1 and re.match(note, case.notes[0])  # and none on T1


def test_flair_alone_is_a_case_of_one_modality(tmp_path, brats_files, drawn):
    brats_files.write_lgg(tmp_path, CASE, np.repeat(drawn[0][..., 1:2], 3, axis=-1))
    assert opened(tmp_path).read(CASE).present == ("flair",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.__setitem__((2, ..., 2), a[2, ..., 1]), "T1Gd equals FLAIR in 1 slice of 4"),
        (lambda a: a.__setitem__((..., 2), a[..., 0]), "T1 and T1Gd are the same images"),
        (lambda a: a.__setitem__((..., 1), 0), "FLAIR of .* is 0 everywhere"),
    ],
)
def test_what_no_rule_decides_is_refused(tmp_path, brats_files, drawn, change, message):
    images = drawn[0].copy()
    change(images)
    brats_files.write_lgg(tmp_path, CASE, images)
    with pytest.raises(BratsError, match=message):
        opened(tmp_path).read(CASE)


def test_a_missing_mask_is_known_before_reading_and_a_case_without_masks_is_unlabelled(
    tmp_path, written
):
    written["2_mask.tif"].unlink()
    assert "_2_mask.tif is missing (1 mask in all)" in opened(tmp_path).problems()[CASE]
    for name in ("1_mask.tif", "3_mask.tif", "4_mask.tif"):
        written[name].unlink()
    source = opened(tmp_path)
    assert not source.problems()
    case = source.read(CASE)
    assert case.labels is None and case.label_kind == "none"


def test_a_mask_without_image_is_known_before_reading(tmp_path, written):
    written["4.tif"].unlink()
    problem = opened(tmp_path).problems()[CASE]
    assert problem.endswith("_4_mask.tif has no image (1 mask in all)")
    with pytest.raises(BratsError, match="fetch what is missing"):
        opened(tmp_path).read(CASE)


@pytest.mark.parametrize(("gone", "missing"), [("1", "missing (1)"), ("3", "missing (3)")])
def test_missing_slices_are_noted(tmp_path, written, gone, missing):
    written[f"{gone}.tif"].unlink()
    written[f"{gone}_mask.tif"].unlink()
    case = opened(tmp_path).read(CASE)
    assert len(case.images) == 3 and f"1 of 4 slices are {missing}" in case.notes[0]


def test_two_files_of_one_slice_are_refused(tmp_path, written):
    path = written["1.tif"]
    path.with_name(f"{CASE}_01.tif").write_bytes(path.read_bytes())
    assert "are the same slice" in opened(tmp_path).problems()[CASE]


def test_slice_0_is_no_slice_of_the_set(tmp_path, written):
    written["1.tif"].rename(written["1.tif"].with_name(f"{CASE}_0.tif"))
    assert "numbered from 1" in opened(tmp_path).problems()[CASE]


def test_an_archive_that_holds_the_set_twice_is_refused_with_the_folder_of_one(
    tmp_path, written, brats_files
):
    brats_files.write_lgg(tmp_path / "lgg-mri-segmentation" / "kaggle_3m", CASE)
    with pytest.raises(BratsError, match=rf"--source={tmp_path}/kaggle_3m$"):
        opened(tmp_path)


def test_the_state_of_a_case_follows_its_images_and_masks(tmp_path, written):
    before = state_of(opened(tmp_path), CASE)
    (written["1_mask.tif"].parent / "data.csv").write_text("not of the case")
    assert state_of(opened(tmp_path), CASE) == before
    for name in ("1.tif", "1_mask.tif"):
        written[name].write_bytes(b"x")
        assert state_of(opened(tmp_path), CASE) != before
        before = state_of(opened(tmp_path), CASE)


def test_more_memory_than_allowed_is_refused_before_reading(tmp_path, written):
    source = LggSource(tmp_path, folder_files(tmp_path), options=ReadOptions(max_case_gb=0.001))
    with pytest.raises(BratsError, match="GB in memory, more than"):
        source.read(CASE)


def test_no_case_has_what_required_labels_are(tmp_path, written):
    source = LggSource(tmp_path, folder_files(tmp_path), options=ReadOptions(require_labels=True))
    assert "no labels of the classes" in source.problems()[CASE]


def test_slices_are_cut_or_padded_on_all_sides_alike():
    numbers = np.arange(1, 13).reshape(1, 3, 4)
    np.testing.assert_array_equal(fitted(numbers, (1, 2))[0], [[6, 7]])
    padded = fitted(numbers, (5, 4))[0]
    np.testing.assert_array_equal(padded[1:4], numbers[0])
    assert not padded[[0, 4]].any()


def test_a_store_keeps_the_mask_of_the_whole_tumour_apart_from_classes(
    tmp_path, written, brats_files, drawn
):
    brats_files.write_lgg(tmp_path / "kaggle_3m", OTHER, copied(drawn[0], "equal"))
    for name in written:
        if name.endswith("mask.tif"):
            written[name].unlink()
    prepare(str(tmp_path), tmp_path / "store", workers=1)
    store = Store.open(tmp_path / "store")
    assert store.patients == [CASE, OTHER]
    assert store.label_kinds == ["none", "whole_tumour"] and not store.labelled.any()
    assert store.present.tolist() == [[True, True, False, True], [True, False, False, True]]
    in_tumour = np.diff(store.tumour_offsets)
    assert in_tumour.tolist() == [0, 0, 0, 0, 0, 900, 900, 900]
    assert not store.pixels.any() and not store.read(range(8))[1].any()


def test_a_stopped_preparation_goes_on_where_it_was(tmp_path, written, brats_files):
    brats_files.write_lgg(tmp_path / "kaggle_3m", OTHER)["2.tif"].write_bytes(b"no TIFF")
    lines = []
    with pytest.raises(BratsError, match=r"_2\.tif .*1 finished case kept"):
        prepare(str(tmp_path), tmp_path / "store", workers=1)
    brats_files.write_lgg(tmp_path / "kaggle_3m", OTHER)
    prepare(str(tmp_path), tmp_path / "store", workers=1, say=lines.append)
    assert "1 of 2 cases already there" in lines
