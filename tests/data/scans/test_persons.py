import pytest

from brats_jax.data.scans.persons import similar_names, subject_of, subjects_of


@pytest.mark.parametrize(
    ("one", "other", "person"),
    [
        ("BraTS-GLI-00006-000", "BraTS-GLI-00006-101", "BraTS-GLI-00006"),
        ("UPENN-GBM-00001_11", "UPENN-GBM-00001_21", "UPENN-GBM-00001"),
        ("UCSF-PDGM-0429", "UCSF-PDGM-0429_FU003d", "UCSF-PDGM-0429"),
        ("NAME_time1", "NAME_time2", "NAME"),
        ("sub-01_ses-01", "sub-01_ses-02", "sub-01"),
        ("TCGA-02-0006_1996.08.23", "TCGA-02-0006_1996.11.04", "TCGA-02-0006"),
        ("Brats17_TCIA_202_1", "Brats18_TCIA_202_1", "TCIA_202"),
        ("Patient-001_week-000-1", "Patient-001_week-044", "Patient-001"),
        ("p7_baseline", "p7_follow-up", "p7"),
        ("P7_2001-02-03", "p7_20010405", "P7"),
    ],
)
def test_scans_of_one_person_are_recognised_by_their_names(one, other, person):
    assert set(subjects_of([one, other]).values()) == {person}


@pytest.mark.parametrize(
    "names",
    [
        ("BraTS2021_01476", "BraTS2021_01477"),
        ("BraTS20_Training_001", "BraTS20_Training_002"),
        ("Brats18_TCIA01_201_1", "Brats18_TCIA01_202_1"),
        ("Phantom_001", "Phantom_002"),
        ("site1_case1", "site1_case2"),
    ],
)
def test_other_names_are_of_one_person_each_and_no_visits(names):
    assert subjects_of(names) == {name: name for name in names}
    assert similar_names([(name, name) for name in names]) == []


def test_a_person_with_one_scan_is_called_like_the_case_but_since_2023():
    assert subjects_of(["UPENN-GBM-00001_11"]) == {"UPENN-GBM-00001_11": "UPENN-GBM-00001_11"}
    assert subjects_of(["BraTS-GLI-00006-001"]) == {"BraTS-GLI-00006-001": "BraTS-GLI-00006"}
    assert subject_of("BraTS2021_00006") == "BraTS2021_00006"


def test_names_that_may_be_visits_of_one_person_are_grouped():
    names = ["case07_1", "case07_2", "case08a", "case08b", "case09"]
    assert similar_names([(name, name) for name in names]) == [names[:2], names[2:4]]
    assert similar_names([(name, name[:6]) for name in names]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P.time1", "P.time2"), ("P time1", "P time2"), ("Ptime1", "Ptime2"),
        ("P001_v1", "P001_v2"), ("P001_V01", "P001_V02"), ("P001_S1", "P001_S2"),
        ("P001_MR1", "P001_MR2"), ("P001_d0", "P001_d120"), ("P001_w00", "P001_w12"),
        ("P001_1st", "P001_2nd"), ("P001_preRT", "P001_postRT"), ("P001_preop", "P001_intraop"),
        ("OAS30001_MR_d0129", "OAS30001_MR_d0757"), ("P_01-02-2003", "P_05-02-2003"),
    ],
)  # fmt: skip
def test_words_that_may_tell_a_moment_are_grouped_or_decide(one, other):
    persons = subjects_of([one, other])
    same = persons[one] == persons[other]
    assert same or similar_names([(name, persons[name]) for name in (one, other)])


def test_persons_with_numbers_alone_are_not_grouped():
    names = [f"Phantom_{i:03}" for i in range(5)] + ["subject12", "subject13", "BraTS2021_00001"]
    assert similar_names([(name, name) for name in names]) == []
