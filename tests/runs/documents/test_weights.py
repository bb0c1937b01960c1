"""config.json of exported weights is sealed, and tells a run's config.json apart."""

import dataclasses
import json

import pytest

from brats_jax.errors import BratsError
from brats_jax.runs.documents import TrainingFacts
from brats_jax.runs.documents.weights import (
    CardOptions,
    SavedFold,
    SavedNetworks,
    WeightsDocument,
    WeightsFolder,
)
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_document

FOLD = SavedFold(0, "hash", 7, 1, 0.5, TrainingFacts(normalisation="volume"))
DOCUMENT = WeightsDocument(
    *("brats_jax", "brats_jax", "research only"),
    tasks={"segment": SavedNetworks({"width": 4}, "bfloat16", "a", "b", (FOLD,), {"seed": 0})},
    sha256={"model.safetensors": "f00"},
    brats_jax="0.2",
)


def test_a_document_reads_back_as_it_was_written(tmp_path):
    folder = WeightsFolder(tmp_path)
    assert not folder.exists
    DOCUMENT.write(folder.config_json)
    assert folder.exists and not RunFolder(tmp_path).exists
    assert read_document(folder.config_json, WeightsDocument) == DOCUMENT
    assert DOCUMENT.weights_sha256 == "f00"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(name="x"), "it has changed since it was written"),
        (lambda d: d.pop("document_sha256"), "it lacks its SHA-256"),
        (lambda d: d.update(schema_version=99), "not a version 1 brats_jax.weights file"),
    ],
)
def test_an_edited_document_is_refused(tmp_path, edit, message):
    path = WeightsFolder(tmp_path).config_json
    DOCUMENT.write(path)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(BratsError, match=message):
        read_document(path, WeightsDocument)


@pytest.mark.parametrize("folds", [(), (dataclasses.replace(FOLD, temperature=0.0),)])
def test_no_fold_and_no_temperature_above_0_are_refused(tmp_path, folds):
    networks = dataclasses.replace(DOCUMENT.tasks["segment"], folds=folds)
    path = WeightsFolder(tmp_path).config_json
    dataclasses.replace(DOCUMENT, tasks={"segment": networks}).write(path)
    with pytest.raises(BratsError, match=r"'folds' is empty|'temperature' is not above 0"):
        read_document(path, WeightsDocument)


def test_new_texts_of_a_card_come_before_those_of_an_earlier_export():
    earlier = CardOptions("cc0-1.0", "a", "b")
    assert CardOptions(command="c").over(earlier) == CardOptions("cc0-1.0", "c", "b")
