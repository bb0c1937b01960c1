"""Sidecars: written by this program, and how a prediction differs from now."""

import json

import pytest

from brats_jax.inference import sidecars
from brats_jax.inference.postprocess import Cleaning
from brats_jax.runs.documents import TrainingFacts
from brats_jax.runs.sidecars import Averaged, FoldModel, ModelFacts, Sidecar


def facts_of(weights="a" * 64, temperature=1.0) -> ModelFacts:
    folds = (FoldModel(0, weights, 7, temperature),)
    return ModelFacts(weights, "RUN", folds, TrainingFacts(), {})


def sidecar_of(model: ModelFacts, averaged: Averaged, cleaning: Cleaning) -> Sidecar:
    return Sidecar(
        case="A",
        use="",
        program="brats_jax",
        version="0.1.0",
        model=model,
        averaged=averaged,
        min_component_mm3=cleaning.min_component_mm3,
        min_et_mm3=cleaning.min_et_mm3,
        made="",
        inputs={},
        notes=(),
    )


@pytest.mark.parametrize(
    ("now", "found"),
    [
        ((facts_of(), Averaged(1, 1), Cleaning()), []),
        ((facts_of(weights="b" * 64), Averaged(1, 1), Cleaning()), ["made by another model"]),
        ((facts_of(temperature=2.0), Averaged(1, 1), Cleaning()), ["made with other settings"]),
        ((facts_of(), Averaged(1, 4), Cleaning()), ["made with other settings"]),
        ((facts_of(), Averaged(1, 1), Cleaning(min_et_mm3=3)), ["made with other settings"]),
    ],
)
def test_a_sidecar_differs_by_model_and_settings(now, found):
    before = sidecar_of(facts_of(), Averaged(1, 1), Cleaning())
    assert sidecars.differences(before, *now) == found


def test_a_json_file_is_ours_if_it_names_the_program(tmp_path):
    path = tmp_path / "a.json"
    for text, ours in (
        (json.dumps({"program": "brats_jax", "schema_version": 99}), True),
        (json.dumps({"EchoTime": 0.1}), False),
        ("[1]", False),
        ("{", False),
    ):
        path.write_text(text)
        assert sidecars.is_ours(path) == ours
    assert not sidecars.is_ours(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_sidecar_has_the_name_of_its_file(tmp_path, name):
    assert sidecars.path_beside(tmp_path / name) == tmp_path / "a.json"
