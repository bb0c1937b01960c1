import numpy as np
import pytest
import unlabelled_examples as examples

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


def test_a_copy_with_fewer_modalities_in_another_source_is_the_same_person(tmp_path):
    one, other, third = examples.made_cases(3)
    copy = examples.changed(one, "own scan 1", kind="none", lacks=("t2", "flair"))
    a = examples.source_of(one, other, name="A")
    b = examples.source_of(copy, examples.changed(third, "own scan 2", kind="none"), name="B")
    manifest = prepare([a, b], tmp_path / "store", workers=1)
    assert manifest.subjects == ("P0", "P1", "P0", "own scan 2")
    assert "its images equal those of P0; taken for one person" in manifest.notes["own scan 1"]


def test_persons_are_recognised_across_sources_and_keep_the_name_of_the_first(tmp_path):
    cases = examples.made_cases(4)
    names = ("UPENN-GBM-00001_11", "TCGA-02-0006_1996.08.23", "TCGA_02_0006_19961001")
    a = [examples.changed(case, name) for case, name in zip(cases, names[:2], strict=False)]
    b = [
        examples.changed(cases[2], "UPENN-GBM-00001_21", kind="none"),
        examples.changed(cases[3], names[2], kind="none"),
    ]
    prepare(examples.source_of(*a, name="A"), tmp_path / "store", workers=1)
    before = Store.open(tmp_path / "store").subjects
    sources = [examples.source_of(*a, name="A"), examples.source_of(*b, name="B")]
    manifest = prepare(sources, tmp_path / "store", workers=1)
    assert list(manifest.subjects) == [*before, *before]
    assert any("2 persons have cases in several sources" in line for line in manifest.notices)
    at_once = prepare(sources, tmp_path / "at once", workers=1)
    assert at_once.subjects == manifest.subjects
