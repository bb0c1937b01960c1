"""Modalities or labels that are exchanged in some cases: the audit names these cases."""

import dataclasses

import numpy as np
import pytest
import unlabelled_examples as examples

from brats_jax.data.store.prepare import prepare
from brats_jax.errors import BratsError

EXCHANGES = [
    ((1, 0, 2, 3), (0, 1, 2, 3), "T1 and T1Gd"),
    ((0, 2, 1, 3), (0, 1, 2, 3), "T1Gd and T2"),
    ((0, 3, 2, 1), (0, 1, 2, 3), "T1Gd and FLAIR"),
    ((3, 1, 2, 0), (0, 1, 2, 3), "T1 and FLAIR"),
    ((0, 1, 2, 3), (0, 1, 3, 2), "ED and ET"),
    ((0, 1, 2, 3), (0, 2, 1, 3), "NCR/NET and ED"),
    ((0, 1, 2, 3), (0, 2, 3, 1), "NCR/NET, ED and ET"),
]


def exchanged(case, modalities, classes):
    return dataclasses.replace(
        case,
        images=case.images[..., list(modalities)],
        labels=np.array(classes, np.uint8)[case.labels],
    )


@pytest.fixture(scope="module")
def cases():
    return examples.made_cases(3)


@pytest.mark.parametrize(("modalities", "classes", "words"), EXCHANGES)
def test_one_case_of_three_is_named_and_no_other(tmp_path, cases, modalities, classes, words):
    one, two, three = cases
    source = examples.source_of(one, exchanged(two, modalities, classes), three)
    said = []
    manifest = prepare(source, tmp_path / "store", workers=1, say=said.append)
    assert list(manifest.contradictions) == [two.patient]
    assert manifest.contradictions[two.patient][0] == f"{words} look exchanged"
    assert any(f"check {two.patient}: {words} look exchanged" in line for line in said)
    assert manifest.audit.verdict == "confirmed" and not manifest.audit.ignored


@pytest.mark.parametrize(("modalities", "classes", "words"), EXCHANGES)
def test_a_set_of_such_cases_is_refused_with_their_names(
    tmp_path, cases, modalities, classes, words
):
    source = examples.source_of(*[exchanged(case, modalities, classes) for case in cases])
    names = ", ".join(case.patient for case in cases)
    with pytest.raises(BratsError, match=rf"3 cases of 3 \({names}\): {words} look exchanged"):
        prepare(source, tmp_path / "store", workers=1)


def test_right_cases_are_not_accused(tmp_path, cases):
    for how in ("slice", "volume"):
        source = examples.source_of(*cases)
        manifest = prepare(source, tmp_path / how, workers=1, normalisation=how)
        assert not manifest.contradictions and manifest.audit.verdict == "confirmed"


def test_a_case_too_small_for_the_other_signs_is_named_by_its_channels(tmp_path, brats_files):
    for name in ("A", "B", "C"):
        volumes = brats_files.make_case(ord(name))
        if name == "B":
            volumes["t1gd"], volumes["t1"] = volumes["t1"], volumes["t1gd"]
        brats_files.write_nifti_case(tmp_path / "source", name, volumes)
    manifest = prepare(tmp_path / "source", tmp_path / "store", workers=1)
    assert list(manifest.contradictions) == ["B"]
    assert manifest.contradictions["B"][0].startswith("T1Gd is not the brightest in ET over NCR")


def test_another_modality_that_is_a_little_brighter_in_et_is_no_exchange(tmp_path, cases):
    images = cases[0].images.copy()
    images[cases[0].labels == 3] += np.array([0, -220, 0, 120], np.int16)
    source = examples.source_of(dataclasses.replace(cases[0], images=images))
    manifest = prepare(source, tmp_path / "store", workers=1)
    contrast = manifest.audit.contrast
    assert contrast["flair"] > contrast["t1gd"] and manifest.audit.verdict == "undecided"
    assert not manifest.contradictions and not manifest.audit.ignored


@pytest.fixture
def kaggle(tmp_path, brats_files):
    """A function that writes Kaggle files with classes in another order, and prepares them."""

    def prepared(classes, t1_of_oedema=0, order=("flair", "t1", "t1gd", "t2"), **options):
        for k in (1, 2):
            volumes = brats_files.make_case(k, shape=(48, 48, 16))
            volumes["t1"] = volumes["t1"] + (t1_of_oedema * (volumes["seg"] == 2)).astype(np.int16)
            volumes["t1gd"] = np.where(volumes["seg"] == 2, volumes["t1"], volumes["t1gd"])
            volumes["flair"] = np.where(volumes["seg"] == 1, 900, volumes["flair"])
            volumes["seg"] = np.array(classes, np.uint8)[volumes["seg"]]
            brats_files.write_kaggle(tmp_path / "source", k, volumes, order=order)
        with pytest.raises(BratsError) as error:
            prepare(tmp_path / "source", tmp_path / "store", workers=1, **options)
        return str(error.value)

    return prepared


def test_masks_in_another_order_get_no_advice_on_the_order_of_the_channels(kaggle):
    line = kaggle((0, 1, 3, 2), t1_of_oedema=150)
    assert "the channel read as t1 looks like T1Gd, or the labels are in another order" in line
    assert "would fit" not in line and "--channel_order" in line


@pytest.mark.parametrize(
    ("stored", "read"),
    [("flair,t1,t1gd,t2", "t1,t1gd,t2,flair"), ("t1,t1gd,t2,flair", "flair,t1,t1gd,t2")],
)
def test_channels_in_another_order_get_the_advice(kaggle, stored, read):
    line = kaggle((0, 1, 2, 3), order=stored.split(","), channel_order=read.split(","))
    assert f"--channel_order={stored} would fit" in line
