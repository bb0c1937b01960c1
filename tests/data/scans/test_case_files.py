from pathlib import Path

import pytest

from brats_jax.data.scans.case_files import group_by_case
from brats_jax.data.scans.naming import SEG


def group(*names, **options):
    return group_by_case([Path("/data", name) for name in names], **options)


def test_files_are_grouped_by_case_whatever_their_spelling():
    cases = group("a/A_t1.nii", "a/a_T1CE.nii.gz", "a/A_seg.nii", "b/B-t2w.nii.gz", "b/notes.txt")
    assert list(cases) == ["A", "B"]
    assert cases["A"].paths == {
        "t1": "/data/a/A_t1.nii",
        "t1gd": "/data/a/a_T1CE.nii.gz",
        SEG: "/data/a/A_seg.nii",
    }
    assert cases["A"].four_is_et and not cases["B"].four_is_et
    assert not cases["A"].conflict


def test_labels_can_be_left_out():
    assert list(group("A_t1.nii", "A_seg.nii", "B_seg.nii", labels=False)) == ["A"]
    assert group("A_t1.nii", "A_seg.nii", labels=False)["A"].paths == {"t1": "/data/A_t1.nii"}


def test_two_files_of_one_volume_are_a_conflict():
    (case,) = group("A_t1gd.nii", "A_t1ce.nii").values()
    assert "A_t1ce.nii and /data/A_t1gd.nii are the same volume" in case.conflict


def test_a_case_in_two_folders_is_a_conflict():
    (case,) = group("a/A_t1.nii", "b/A_t2.nii").values()
    assert case.conflict.startswith("/data/b and /data/a both hold the case A: put its volumes")


@pytest.mark.parametrize(
    "names",
    [
        ("A/A_t1.nii/7_brain_t1.nii", "A/A_t2.nii/7_brain_t2.nii", "A/A_seg.nii/7_final_seg.nii"),
        ("A/A_t1.nii.gz/t1.nii", "A/A_t2.nii.gz/image.nii.gz", "A/A_seg.nii/A_seg.nii"),
        ("A/t1/A_t1.nii", "A/T2/A_t2.nii", "A/seg/A_seg.nii"),
        ("A/A_t1/A_t1.nii", "A/A_t2/A_t2.nii.gz", "A/A_seg.nii"),
    ],
)
def test_a_folder_for_each_volume_is_one_case(names):
    (case,) = group(*names).values()
    assert case.name == "A" and case.folder == Path("/data/A") and not case.conflict
    assert case.paths == {n: f"/data/{p}" for n, p in zip(("t1", "t2", SEG), names, strict=True)}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("A/A_t1.nii/x.nii", "A/A_t1.nii/y.nii"), "are the same volume of the case A: move one"),
        (("A/A_t1.nii/7_t2.nii",), "is t2 by its name, and t1 by that of its folder"),
        (("a/A_t1.nii", "a/A_t2.nii", "b/A_seg.nii"), "both hold the case A"),
    ],
)
def test_folders_that_contradict_their_files_are_a_conflict(names, message):
    (case,) = group(*names).values()
    assert message in case.conflict


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("automated/{}_automated_approx_segm.nii.gz",), 0),
        (("automated/{}_automated_approx_segm.nii.gz", "manual/{}_segm.nii.gz"), 1),
        (("image/{}_segm.nii.gz",), 0),
    ],
)
def test_labels_of_upenn_lie_in_folders_of_their_own(names, labels):
    case = "UPENN-GBM-00001_11"
    names = [name.format(case) for name in names]
    found = group(f"image/{case}_T1.nii.gz", f"image/{case}_T1GD.nii.gz", *names)[case]
    assert not found.conflict and found.folder == Path("/data/image")
    assert found.paths[SEG] == f"/data/{names[labels]}"


def test_labels_of_upenn_in_two_places_are_a_conflict():
    (case,) = group("a/UPENN-GBM-1_11_segm.nii", "b/UPENN-GBM-1_11_segm.nii").values()
    assert "are the same volume of the case UPENN-GBM-1_11: move one" in case.conflict


def test_oddly_named_labels_belong_to_the_only_case_of_their_folder():
    odd = "W39_1998.09.19_Segm.nii"
    assert group("a/A_t1.nii", f"a/{odd}")["A"].paths[SEG] == f"/data/a/{odd}"
    assert SEG not in group("a/A_t1.nii", "a/B_t1.nii", f"a/{odd}")["A"].paths
    assert SEG in group("a/A_t1.nii", f"a/{odd}", "a/other_seg_2.nii")["A"].paths


@pytest.mark.parametrize(
    "name",
    [
        "A_brain_segmentation.nii.gz",
        "A_brain_seg.nii",
        "A_wm_seg.nii",
        "synthseg.nii",
        "A_segm.nii",
    ],
)
def test_other_masks_are_no_labels_and_make_no_case(name):
    cases = group("a/A_t1.nii", f"a/{name}")
    assert list(cases) == ["A"] and SEG not in cases["A"].paths
    assert cases["A"].other_masks == [f"/data/a/{name}"]


def test_labels_of_ucsf_and_upenn_are_known():
    name = "UCSF-PDGM-0004"
    case = group(f"a/{name}_T1.nii", f"a/{name}_tumor_segmentation.nii.gz")[name]
    assert SEG in case.paths
    name = "UPENN-GBM-00001_11"
    assert SEG in group(f"a/{name}_T1.nii", f"a/{name}_automated_approx_segm.nii.gz")[name].paths


def test_labels_under_another_case_name_make_no_case():
    cases = group("a/A_t1.nii", "a/corrected_seg.nii")
    assert list(cases) == ["A"] and cases["A"].paths[SEG] == "/data/a/corrected_seg.nii"
