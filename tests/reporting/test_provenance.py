"""Stores, pretraining tasks and settings in words."""

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


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"kind": "phantom", "patients": 16, "seed": 0}, "phantom, 16 patients, seed 0"),
        ({"kind": "nifti", "patients": 20, "seed": 0}, "nifti, 20 patients"),
        ({}, "source unknown"),
    ],
)
def test_a_source_in_words(source, words):
    assert provenance.describe_source(source) == words


def test_settings_are_shared_or_listed_by_run(study):
    document = json.loads(provenance.configuration(study))
    assert document["shared by all runs"]["segment.epochs"] == 30
    assert document["by run"]["focal-ssl"] == {"loss": "focal", "ssl": True}
