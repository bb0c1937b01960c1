from pathlib import Path

import numpy as np
import pytest

from brats_jax.data.scans.labels import (
    SCHEMES,
    choose_scheme,
    label_values,
    map_labels,
    scheme_named,
    schemes_of,
    with_et_as,
)
from brats_jax.data.scans.volumes import Volume
from brats_jax.errors import BratsError


def volume(values, dtype=np.float32):
    return Volume("A_seg.nii.gz", np.array(values, dtype).reshape(1, 1, -1), np.eye(4), None)


def names_of(case, *, four_is_et=True, folder="/data/A"):
    return [one.name for one in schemes_of(case, Path(folder), four_is_et=four_is_et)]


@pytest.mark.parametrize(
    ("case", "scheme"),
    [
        ("BraTS2021_01476", "brats2021"),
        ("BraTS20_Training_003", "brats2021"),
        ("Brats18_2013_11_1", "brats2021"),
        ("BraTS-GLI-00006-001", "brats2023"),
        ("BraTS-GLI-02063-100", "brats2024"),
        ("BraTS-SSA-00002-000", "ssa"),
        ("BraTS-MET-00002-000", "met"),
        ("BraTS-MEN-00002-000", "men"),
        ("UCSF-PDGM-0004", "ucsf-pdgm"),
        ("UPENN-GBM-00001_11", "upenn-gbm"),
        ("BRATS_001", "msd"),
    ],
)
def test_recognised_names_choose_the_scheme(case, scheme):
    assert names_of(case) == names_of(case, four_is_et=False) == [scheme]


def test_suffixes_and_folders_choose_for_other_names():
    assert names_of("A") == ["brats2021"] and names_of("A", four_is_et=False) == ["brats2023"]
    assert names_of("A", folder="/d/Task01_BrainTumour/A") == ["msd"]
    assert names_of("BraTS-PED-00002-000") == ["ped", "brats2023"]
    for year, scheme in ((2023, "brats2023"), (2024, "ped")):
        assert names_of("BraTS-PED-00002-000", folder=f"/d/BraTS{year}-PED/x") == [scheme]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
@pytest.mark.parametrize(
    ("scheme", "values", "classes"),
    [
        ("brats2021", [0, 1, 2, 4], [0, 1, 2, 3]),
        ("brats2023", [0, 1, 2, 3], [0, 1, 2, 3]),
        ("brats2024", [0, 1, 2, 3, 4], [0, 1, 2, 3, 0]),
        ("ped", [0, 1, 2, 3, 4], [0, 3, 1, 1, 2]),
        ("msd", [0, 1, 2, 3], [0, 2, 1, 3]),
    ],
)
def test_every_value_becomes_its_class(dtype, scheme, values, classes):
    assert choose_scheme(volume(values, dtype), [], scheme) is SCHEMES[scheme]
    labels = map_labels(volume(values, dtype), SCHEMES[scheme], [])
    assert labels.dtype == np.uint8 and labels.ravel().tolist() == classes


def test_a_resection_cavity_is_background_and_counted():
    notes = []
    map_labels(volume([0, 3, 4, 4]), SCHEMES["brats2024"], notes)
    assert notes == ["2 voxels of resection cavity (label 4) are read as background"]


@pytest.mark.parametrize(
    ("case", "values", "message"),
    [
        ("BraTS2021_1", [1, 2, 3], r"--labels=brats2023 \(.*\) or --labels=ped \(.*--labels=msd"),
        ("BraTS20_Training_1", [0, 3], "by its name it is brats2021"),
        ("BraTS-GLI-00001-000", [0, 3, 4], r"4 resection cavity"),
        ("BraTS-GLI-00001-000", [0, 4], r"brats2021 .*=brats2024 \(.*resection cavity\)"),
        ("BraTS-PED-00001-000", [0, 1, 2], r"does not explain: give --labels=ped .*=brats2023"),
    ],
)
def test_what_the_name_does_not_explain_is_refused_with_the_schemes_that_fit(case, values, message):
    candidates = schemes_of(case, Path("/data"), four_is_et=True)
    with pytest.raises(BratsError, match=message):
        choose_scheme(volume(values), candidates)


@pytest.mark.parametrize("values", [[0, 0.5], [0, 5], [-1, 0], list(range(20))])
def test_values_of_no_scheme_are_refused(values):
    with pytest.raises(BratsError, match=r"A_seg.nii.gz has the label values .* repair or remove"):
        choose_scheme(volume(values), [SCHEMES["brats2021"]])
    with pytest.raises(BratsError, match="--labels=brats2099 is no label scheme; valid: brats2021"):
        choose_scheme(volume([0]), [], "brats2099")


def test_masks_of_one_value_are_noted():
    notes = []
    map_labels(volume([0, 1]), SCHEMES["brats2021"], notes)
    assert "check that they are no mask of the brain" in notes[0]


def test_distinct_values_are_ascending():
    assert label_values(np.array([2, 0, 1, 2, 0])) == [0, 1, 2]
    assert label_values(np.array([[3, 1], [1, 3]])) == [1, 3]
    assert label_values(np.zeros(3)) == [0]


def test_et_is_written_as_the_release_has_it():
    labels = np.array([0, 1, 2, 3], np.uint8)
    assert with_et_as(labels, 4).tolist() == [0, 1, 2, 4] and with_et_as(labels, 4).dtype == "u1"
    assert with_et_as(labels, 3).tolist() == [0, 1, 2, 3]
    with pytest.raises(BratsError, match=r"et_label=5: give 4 .* or 3"):
        with_et_as(labels, 5)


@pytest.mark.parametrize(
    ("given", "name"),
    [("2020", "brats2021"), ("BraTS2018", "brats2021"), ("2023", "brats2023"), ("msd", "msd")],
)
def test_a_scheme_is_chosen_by_name_or_by_year(given, name):
    assert scheme_named(given).name == name


def test_a_year_without_a_scheme_is_refused():
    with pytest.raises(BratsError, match="is no label scheme"):
        scheme_named("2022")
