import numpy as np
import pytest

from brats_jax.data.splits import make_splits
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError


@pytest.fixture
def said():
    return []


def write_cases(root, brats_files, **cases):
    for name, volumes in cases.items():
        brats_files.write_nifti_case(root, name, volumes, suffix=".nii")
    return root


def another_place(volumes):
    """The labels of a case of `brats_files` are equal for all seeds: moves them by a voxel."""
    return {**volumes, "seg": np.roll(volumes["seg"], 1, axis=1)}


def test_equal_images_under_two_names_are_one_person_and_noted(tmp_path, brats_files, said):
    one, other = brats_files.make_case(1), another_place(brats_files.make_case(2))
    source = write_cases(
        tmp_path / "source", brats_files, BraTS2021_01476=one, BraTS20_Training_003=one, Z9=other
    )
    manifest = prepare(source, tmp_path / "store", workers=1, say=said.append)
    assert len(set(manifest.subjects)) == manifest.summary.subjects == 2
    assert "images equal those of BraTS20_Training_003" in manifest.notes["BraTS2021_01476"][0]
    assert "Z9" not in manifest.notes
    assert any("taken for one person" in line for line in said)
    with pytest.raises(BratsError, match="2 patients are too few"):
        make_splits(Store.open(tmp_path / "store"), num_folds=2)


def test_two_visits_are_one_person(tmp_path, brats_files):
    source = write_cases(
        tmp_path / "source",
        brats_files,
        **{f"UPENN-GBM-00001_{k}": brats_files.make_case(k) for k in (11, 21)},
        **{f"UPENN-GBM-00002_{k}": brats_files.make_case(k) for k in (12,)},
    )
    manifest = prepare(source, tmp_path / "store", workers=1)
    assert manifest.subjects == ("UPENN-GBM-00001", "UPENN-GBM-00001", "UPENN-GBM-00002_12")


def test_names_that_may_be_visits_are_noted(tmp_path, brats_files, said):
    source = write_cases(
        tmp_path / "source",
        brats_files,
        S07_1=brats_files.make_case(1),
        S07_2={**brats_files.make_case(2)},
    )
    manifest = prepare(source, tmp_path / "store", workers=1, say=said.append)
    assert manifest.subjects == ("S07_1", "S07_2")
    assert any("taken for different persons: S07_1, S07_2" in line for line in manifest.notices)


def test_copied_and_empty_labels_are_noted(tmp_path, brats_files, said):
    one, other = brats_files.make_case(1), brats_files.make_case(2)
    third = brats_files.make_case(3)
    third["seg"][:] = 0
    source = write_cases(tmp_path / "source", brats_files, A=one, B=other, C=third)
    manifest = prepare(source, tmp_path / "store", workers=1, say=said.append)
    assert manifest.notes["A"] == ("its labels equal those of B, its images do not",)
    assert manifest.notes["C"] == ("its labels are empty, those of 2 other cases are not",)
    assert any("one file is a copy of another case's labels" in line for line in said)


def test_a_case_with_exchanged_labels_is_named_and_a_set_of_them_is_refused(tmp_path, brats_files):
    shape = (80, 72, 8)
    right = [another_place(brats_files.make_case(1, shape)), brats_files.make_case(2, shape)]
    right.append({**right[0], "t1": right[0]["t1"] + np.int16(1) * (right[0]["t1"] > 0)})
    wrong = brats_files.make_case(4, shape)
    wrong["seg"] = np.array([0, 2, 1, 3], np.uint8)[wrong["seg"]]
    source = tmp_path / "source"
    write_cases(source, brats_files, W=wrong)
    with pytest.raises(BratsError, match=r"1 case of 1 \(W\): NCR/NET and ED look exchanged"):
        prepare(source, tmp_path / "store", workers=1)
    assert not (tmp_path / "store").exists()
    manifest = prepare(source, tmp_path / "ignored", workers=1, ignore_audit=True)
    assert list(manifest.contradictions) == ["W"]
    write_cases(source, brats_files, A=right[0], B=right[1], C=right[2])
    manifest = prepare(source, tmp_path / "store", workers=1)
    assert list(manifest.contradictions) == ["W"] and "exchanged" in manifest.notes["W"][0]
