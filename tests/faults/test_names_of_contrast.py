"""T1 with and without contrast, by every name in use: T1Gd is never read as T1."""

from pathlib import Path

import pytest

from brats_jax.data.modalities import canonical_name
from brats_jax.data.scans.case_files import group_by_case
from brats_jax.data.scans.options import ReadOptions
from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.detect import open_source
from brats_jax.data.sources.nifti import NiftiSource

WITH = [
    *("post_T1", "T1_post", "T1_POSTCONTRAST", "T1-post-contrast", "t1post", "T1post_contrast"),
    *("T1w_ce", "T1wCE", "T1c", "T1C_post", "T1ce_post", "T1_Gd_post", "T1_post_Gd", "gd_T1"),
    *("T1_contrast_enhanced", "T1_with_contrast", "with_contrast_T1", "ce_T1", "ceT1", "postT1"),
    *("CT1", "T1+C", "T1_C+", "T1_KM", "T1-Gadolinium", "T1.post", "post.T1"),
    *("ce-gadolinium_T1w", "acq-post_T1w", "desc-postcontrast_T1w"),
]
WITHOUT = [
    *("T1", "T1w", "t1n", "pre_T1", "T1_pre", "T1_precontrast", "T1_non_contrast", "T1_native"),
    *("noncontrast_T1", "native_T1", "T1_no_contrast", "without_contrast_T1", "T1_unenhanced"),
]


def group(*names):
    return group_by_case([Path("/data/x", f"{name}.nii.gz") for name in names])


def volumes(case):
    return {name: Path(path).name.removesuffix(".nii.gz") for name, path in case.paths.items()}


@pytest.mark.parametrize("name", WITH)
def test_contrast_is_read_beside_any_t1(name):
    (case,) = group("CASE_T1", f"CASE_{name}", "CASE_T2", "CASE_FLAIR", "CASE_seg").values()
    assert not case.conflict and case.name == "CASE"
    assert volumes(case)["t1gd"] == f"CASE_{name}" and volumes(case)["t1"] == "CASE_T1"


@pytest.mark.parametrize("name", WITHOUT)
def test_no_contrast_is_t1(name):
    (case,) = group(f"CASE_{name}", "CASE_post_T1", "CASE_T2").values()
    assert not case.conflict
    assert volumes(case) == {"t1": f"CASE_{name}", "t1gd": "CASE_post_T1", "t2": "CASE_T2"}


def test_words_of_visits_stay_those_of_visits():
    names = [f"A_{visit}_{name}" for visit in ("pre", "post") for name in ("T1", "T1ce", "T2")]
    cases = group(*names)
    assert {name: len(case.paths) for name, case in cases.items()} == {"A_pre": 3, "A_post": 3}
    assert volumes(cases["A_post"])["t1"] == "A_post_T1" and not cases["A_post"].conflict
    one = group("A_pre_T1", "A_post_T1", "A_pre_T2")
    assert volumes(one["A_pre"]) == {"t1": "A_pre_T1", "t1gd": "A_post_T1", "t2": "A_pre_T2"}
    assert list(group("A_c_T1", "B_postop_T1")) == ["A_c", "B_postop"]


@pytest.mark.parametrize(
    ("names", "file"),
    [
        (("A_post_T1", "A_post_T2", "A_post_FLAIR"), "A_post_T1.nii.gz may be T1Gd, or T1 of ano"),
        (("A_T1", "A_T2", "A_post_n4_T1"), "A_post_n4_T1.nii.gz is T1 by the end of its name"),
        (("A_brain_T1", "A_T2", "A_post_contrast_brain_T1"), "A_post_contrast_brain_T1.nii.gz is"),
        (
            ("A_T1", "A_T1ce", "A_post_T1"),
            "A_post_T1.nii.gz and /data/x/A_T1ce.nii.gz are the same",
        ),
    ],
)
def test_what_may_be_either_is_refused_by_its_file(names, file):
    lines = [case.conflict for case in group(*names).values()]
    assert any(file in line for line in lines)


def test_settings_read_the_same_spellings():
    for name in WITH[:12]:
        assert canonical_name(name) == "t1gd"


@pytest.mark.parametrize(
    ("places", "is_automatic"),
    [
        (("automated_segm/{}_automated_approx_segm.nii.gz",), True),
        (("automated_segm/{}_segm.nii.gz",), True),
        (("images_segm/{}_segm.nii.gz",), False),
        (("automated_segm/{}_automated_approx_segm.nii.gz", "images_segm/{}_segm.nii.gz"), False),
    ],
)
def test_automatic_labels_are_noted(tmp_path, brats_files, places, is_automatic):
    name = "UPENN-GBM-00001_11"
    paths = brats_files.write_nifti_case(tmp_path, name, brats_files.make_case())
    for place in places:
        target = tmp_path / place.format(name)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(paths["seg"].read_bytes())
    paths["seg"].unlink()
    source = NiftiSource(tmp_path, folder_files(tmp_path))
    case = source.read(name)
    text = "its labels are automatic, not corrected by hand (" + Path(places[0]).name.format(name)
    assert any(text in note for note in case.notes) == is_automatic
    assert case.provenance.get("automatic_labels", False) == is_automatic
    assert any("1 case of 1 with automatic labels" in n for n in source.notices()) == is_automatic


@pytest.mark.parametrize(
    "beside",
    [
        "A/A_seg.nrrd", "A/truth.mha", "A/seg.mgz", "A/A_seg.nii.gz/", "A/masks/", "A_seg/",
        "labels/", "labels/A.nrrd", "segmentations.zip",
    ],
)  # fmt: skip
def test_what_may_be_the_labels_in_another_form_is_noted(tmp_path, brats_files, beside):
    brats_files.write_nifti_case(tmp_path, "A", brats_files.make_case())["seg"].unlink()
    brats_files.write_nifti_case(tmp_path, "B", brats_files.make_case(1))
    path = tmp_path / beside
    if beside.endswith("/"):
        path.mkdir()
        line = f"the folder {path.name} is empty"
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"NRRD0004")
        line = f"{path.name} is no NIfTI file"
    source = NiftiSource(tmp_path, folder_files(tmp_path))
    assert any(f"without labels; {line}" in note for note in source.read("A").notes)
    assert any(f"may be labels (A; {line}" in notice for notice in source.notices())
    assert not any(path.name in note for note in source.read("B").notes)
    strict = NiftiSource(tmp_path, folder_files(tmp_path), options=ReadOptions(require_labels=True))
    assert f"for case A; {line}" in strict.problems()["A"]


@pytest.mark.parametrize("beside", ["labelsTr/B.nrrd", "imagesTr/B_seg.mha"])
def test_labels_of_other_formats_of_a_data_set_with_json_are_noted(tmp_path, brats_files, beside):
    brats_files.write_dataset_json(tmp_path, brats_files.MSD_JSON)
    for name in ("A", "B"):
        brats_files.write_msd_case(tmp_path, name, brats_files.make_case(ord(name)))
    (tmp_path / "labelsTr" / "B.nii.gz").unlink()
    path = tmp_path / beside
    path.write_bytes(b"NRRD0004")
    source = open_source(str(tmp_path))
    line = f"{path.name} is no NIfTI file"
    assert any(f"without labels; {line}" in note for note in source.read("B").notes)
    assert any(f"may be labels (B; {line}" in notice for notice in source.notices())
