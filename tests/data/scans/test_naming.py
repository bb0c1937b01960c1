import pytest

from brats_jax.data.modalities import MODALITIES, canonical_name
from brats_jax.data.scans.naming import (
    NAMINGS,
    SEG,
    parse_volume_name,
    stated_volume,
    unknown_part,
)


@pytest.mark.parametrize(
    ("name", "case", "volume", "four_is_et"),
    [
        ("BraTS20_Training_001_t1ce.nii", "BraTS20_Training_001", "t1gd", True),
        ("BraTS2021_01476_flair.nii.gz", "BraTS2021_01476", "flair", True),
        ("BraTS2021_01476_seg.nii.gz", "BraTS2021_01476", SEG, True),
        ("BraTS-GLI-00000-000-t1n.nii.gz", "BraTS-GLI-00000-000", "t1", False),
        ("BraTS-GLI-00000-000-t2W.nii.gz", "BraTS-GLI-00000-000", "t2", False),
        ("my_case_T2_FLAIR.nii.gz", "my_case", "flair", True),
        ("my_case-t2-flair.nii", "my_case", "flair", True),
        ("my_case_T1Gd.NII.GZ", "my_case", "t1gd", True),
    ],
)
def test_a_volume_is_recognised_by_its_name(name, case, volume, four_is_et):
    parsed = parse_volume_name(name)
    assert (parsed.case, parsed.volume, parsed.four_is_et) == (case, volume, four_is_et)


@pytest.mark.parametrize(
    "name", ["W39_1998.09.19_Segm.nii", "t1.nii.gz", "A_t1.mha", "A_t1_mask.nii.gz", "A_pd.nii"]
)
def test_other_names_are_no_volumes(name):
    assert parse_volume_name(name) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("p7_T1_mprage.nii.gz", "'mprage' at its end names no modality"),
        ("A_t1-brain mask.nii", "'brain mask' at its end names no modality"),
        ("scan.nii.gz", "there is no '_' or '-' before a modality"),
        ("T2_FLAIR.nii", "there is no case before 'T2_FLAIR'"),
        ("A_t1.mha", "it is no .nii or .nii.gz file"),
        ("A_seg.nii.gz", "'seg' at its end names labels, not an image"),
        ("A_t1.nii.gz", ""),
    ],
)
def test_the_part_of_a_name_that_is_not_understood_is_told(name, expected):
    assert unknown_part(name) == expected


@pytest.mark.parametrize(
    ("name", "volume"),
    [
        ("A_t2.nii.gz", "t2"),
        ("T2_FLAIR.nii", "flair"),
        ("A_seg.nii.gz", SEG),
        ("A_post_T1.nii.gz", None),  # T1Gd, or T1 of another visit
        ("A_Gado_brain_T1.nii.gz", None),  # T1 by its end, with a word on contrast
        ("my_scan.nii.gz", None),
        ("t1", None),
    ],
)
def test_a_name_states_a_volume_only_where_it_has_one_meaning(name, volume):
    assert stated_volume(name) == volume


@pytest.mark.parametrize("naming", NAMINGS, ids=lambda naming: naming.releases)
def test_every_naming_names_every_modality(naming):
    assert tuple(naming.suffixes) == MODALITIES
    for modality, suffix in naming.suffixes.items():
        name = f"CASE{naming.separator}{suffix}.nii.gz"
        assert parse_volume_name(name).volume == modality == canonical_name(suffix)
        assert suffix in naming.example
