"""The parts of an exported model's description; test_first_version.py reads whole files."""

import pytest

from brats_jax.runs.documents.export import ExportedFold, ExportedOutput

FOLD = {
    "name": "fold_0",
    "weights": "segment_fold_0.safetensors",
    "sha256": "ab",
    "hash": "cd",
    "step": 8,
    "epoch": 2,
    "value": 0.5,
}


def test_a_fold_keeps_its_fields_when_read_and_written():
    written = ExportedFold.from_json(FOLD).to_json()
    assert {name: written[name] for name in FOLD} == FOLD


def test_a_fold_without_a_weight_file_is_refused():
    with pytest.raises((KeyError, TypeError, ValueError)):
        ExportedFold.from_json({name: v for name, v in FOLD.items() if name != "weights"})


def test_labels_have_no_unit():
    output = {"name": "labels", "dtype": "uint8", "shape": ["n", 4, 4]}
    assert ExportedOutput.from_json(output).unit == ""
