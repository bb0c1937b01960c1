"""Stores, pretraining tasks and settings in words."""

import dataclasses
import json

import pytest
from report_examples import write_run

from brats_jax.reporting import provenance
from brats_jax.reporting.read_runs import discover


def test_each_store_and_pretraining_has_a_line(study):
    assert list(provenance.facts(study)) == [
        "Store 0123456789abcdef (nifti, 20 patients), normalised by slice.",
        "Pretraining predicts FLAIR from T1, T1Gd.",
    ]


def test_the_path_of_a_store_is_shown(tmp_path):
    study = discover(write_run(tmp_path / "run", ssl=False, store="/data/store"))
    assert next(provenance.facts(study)).endswith("normalised by slice, in a folder called store.")


def test_stores_of_other_planes_are_named(study):
    first = study.runs[0]
    planes = {"coronal": "a", "sagittal": "b"}
    store = dataclasses.replace(first.document.store, other_planes=planes)
    document = dataclasses.replace(first.document, store=store)
    changed = dataclasses.replace(study, runs=[dataclasses.replace(first, document=document)])
    assert "Training also reads stores of coronal and sagittal slices." in next(
        provenance.facts(changed)
    )


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"kind": "phantom", "patients": 16, "seed": 0}, "phantom, 16 patients, seed 0"),
        ({"kind": "nifti", "patients": 20, "seed": 0}, "nifti, 20 patients"),
        ({}, "source unknown"),
        ({"kind": "several", "sources": [{"kind": "nifti"}, {"kind": "lgg"}]}, "nifti; lgg"),
    ],
)
def test_a_source_in_words(source, words):
    assert provenance.describe_source(source) == words


def test_patients_without_labels_are_counted():
    counts = {"labelled": 7, "labelled_persons": 6, "unlabelled": 5, "unlabelled_persons": 5}
    counts |= {"partial": 2, "partial_persons": 1, "whole_tumour": 1}
    assert provenance.describe_patients(counts) == (
        " Of its patients 7 (6 persons) have labels of the classes and 5 have none, of which 1 "
        "have a mask of the whole tumour; 2 (1 person) lack a modality. Pretraining alone uses "
        "those without labels."
    )
    assert provenance.describe_patients({}) == ""


def test_settings_are_shared_or_listed_by_run(study):
    document = json.loads(provenance.configuration(study))
    assert document["shared by all runs"]["segment.epochs"] == 30
    assert document["by run"]["focal-ssl"] == {"loss": "focal", "ssl": True}
