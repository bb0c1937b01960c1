"""No two scans of one person are taken for two persons without a note, and nobody is joined."""

import pytest

from brats_jax.data.scans.persons import similar_names, subjects_of
from brats_jax.data.store.prepare import prepare

SAME = [
    ("sub-01_run-1", "sub-01_run-2"),
    ("sub-01_acq-a", "sub-01_acq-b"),
    ("sub-01_ses-1_acq-a", "sub-01"),
    ("UCSF-PDGM-0004_nifti", "UCSF-PDGM-0004_FU003d_nifti"),
]
NOTED = [
    ("Patient 1 visit 1", "Patient 1 visit 2"),
    ("P1", "P1_rescan"),
    ("P1_test", "P1_retest"),
    ("P1_cycle1", "P1_cycle2"),
    ("P1_initial", "P1_final"),
    ("P1", "P1 (2)"),
    ("visit1_P1", "visit2_P1"),
    ("0001-000", "0001-001"),
    ("sub-1_ses-1", "sub-01_ses-2"),
    ("PAT01_03042019", "PAT01_05062020"),
    ("PAT01_04Mar2019", "PAT01_Apr2020"),
    ("Brats17_TCIA_201_1", "Brats18_TCIA01_201_1"),
    ("BraTS2021_00621", "BraTS-GLI-00621-000"),
]
OTHERS = [
    ("BraTS2021_01476", "BraTS2021_01477"),
    ("Brats18_TCIA01_378_1", "Brats18_TCIA01_425_1"),
    ("Brats17_TCIA_201_1", "Brats18_TCIA01_202_1"),
    ("Brats18_2013_11_1", "Brats18_2013_12_1"),
    ("BraTS20_Training_001", "BraTS20_Validation_001"),
    ("BraTS-MEN-00001-000", "BraTS-GLI-00001-000"),
    ("sub-PAT-01", "sub-PAT-02"),
    ("sub-x_case-01", "sub-x_case-02"),
    ("IvyGAP_W01_1996", "IvyGAP_W02_1996"),
    ("case_12345678", "case_12345679"),
]


def verdict(names):
    persons = subjects_of(names)
    noted = similar_names([(name, persons[name]) for name in names])
    return len(set(persons.values())), noted


@pytest.mark.parametrize("names", SAME)
def test_names_that_are_certain_are_of_one_person(names):
    assert verdict(names) == (1, [])


@pytest.mark.parametrize("names", NOTED)
def test_names_that_may_be_scans_of_one_person_are_noted(names):
    assert verdict(names) == (2, [list(names)])


@pytest.mark.parametrize("names", OTHERS)
def test_names_of_different_persons_are_neither_joined_nor_noted(names):
    assert verdict(names) == (2, [])


def test_a_long_row_of_numbers_counts_cases_and_no_visits():
    assert verdict([f"study2021_{k:03}" for k in range(50)]) == (50, [])


def test_a_preparation_says_so(tmp_path, brats_files):
    for k, name in enumerate(("sub-01_run-1", "sub-01_run-2", "P1", "P1_rescan")):
        brats_files.write_nifti_case(tmp_path / "source", name, brats_files.make_case(k))
    said = []
    manifest = prepare(tmp_path / "source", tmp_path / "store", workers=1, say=said.append)
    assert sorted(set(manifest.subjects)) == ["P1", "P1_rescan", "sub-01"]
    assert any("taken for different persons: P1, P1_rescan" in line for line in said)
