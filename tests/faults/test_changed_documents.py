"""Every JSON document of a run, a grid, a prediction or an export is read as it was written."""

import json
import random
import re

import pytest
from document_examples import STORE, grid_of, record_of, result_of, training_of
from report_examples import write_run

from brats_jax.data.audit import Audit
from brats_jax.data.splits import Splits
from brats_jax.errors import BratsError
from brats_jax.evaluation.summary import summarise_run
from brats_jax.experiments import continuation
from brats_jax.reporting.read_runs import discover
from brats_jax.runs import documents
from brats_jax.runs.axes import Axes
from brats_jax.runs.folder import RunFolder
from brats_jax.runs.sidecars import (
    Averaged,
    FoldModel,
    ModelFacts,
    SegmentationSidecar,
    TrainingFacts,
    VolumeRange,
)
from brats_jax.runtime.document import read_document

MODEL = ModelFacts("a1", "run", (FoldModel(0, "a1", 5, 1.0),), TrainingFacts(), {})
# By the name of the file: its class.
KINDS = {
    "config.json": documents.RunConfig,
    "splits.json": Splits,
    "summary.json": documents.Summary,
    "audit.json": Audit,
    "evaluation.json": documents.Evaluation,
    "complete.json": documents.StageResult,
    "training.json": documents.StageTraining,
    "pretraining.json": documents.PretrainingSource,
    "grid.json": documents.GridConfig,
    "cell.json": documents.CellRecord,
    "CASE_seg.json": SegmentationSidecar,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, and a document of each other kind beside it."""
    path = write_run(tmp_path_factory.mktemp("documents") / "run", folds=(0,))
    summarise_run(RunFolder(path), 1)
    training_of(7).write(path / "training.json")
    documents.PretrainingSource("elsewhere", result_of()).write(path / "pretraining.json")
    grid_of(Axes(folds=(0,))).write(path / "grid.json")
    record_of("cell").write(path / "cell.json")
    facts = ("brats_jax", "0", MODEL, Averaged(1, 1), 0.0, 0.0, "now", {"t1": "t1.nii.gz"}, ())
    volumes = {"WT": VolumeRange(12.5, 11.0, 13.0)}
    SegmentationSidecar(
        "CASE", "research", *facts, labels={"0": "background"}, volumes_ml=volumes
    ).write(path / "CASE_seg.json")
    return path


@pytest.mark.parametrize("name", KINDS)
def test_no_digit_of_a_document_can_change_without_a_word(folder, name):
    path = next(folder.rglob(name))
    kind, text = KINDS[name], path.read_text()
    whole = read_document(path, kind)
    digits = [match.start() for match in re.finditer(r"\d", text)]
    digits = [at for at in digits if '"sha256"' not in text[at - 7 : at + 7]]  # of its name
    try:
        for at in random.Random(0).sample(digits, min(12, len(digits))):
            path.write_text(f"{text[:at]}{(int(text[at]) + 1) % 10}{text[at + 1 :]}")
            with pytest.raises(BratsError) as caught:
                read_document(path, kind)
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        # As version 0.1.0 wrote it: without the digest.
        unsealed = {n: v for n, v in json.loads(text).items() if n != kind.SEAL}
        path.write_text(json.dumps(unsealed))
        assert read_document(path, kind) == whole
    finally:
        path.write_text(text)


def test_edited_settings_are_named_with_what_to_do(tmp_path):
    path = tmp_path / "config.json"
    documents.RunConfig({"loss": "focal"}, STORE).write(path)
    text = path.read_text()
    path.write_text(text.replace("focal", "dice_ce"))
    with pytest.raises(BratsError) as caught:
        continuation.read_unchanged(path, documents.RunConfig, {"loss": "focal"}, None)
    assert str(caught.value) == (
        f"{path}: it has changed since it was written (its SHA-256 differs; to keep an edit, "
        "remove its entry 'sha256'); undo the change if it was edited, copy it again if it was "
        "copied, or give another --workdir"
    )
    edited = json.loads(path.read_text())
    del edited["sha256"]
    path.write_text(json.dumps(edited))
    assert read_document(path, documents.RunConfig).settings.loss == "dice_ce"


def test_the_report_names_a_changed_evaluation_and_leaves_it_out(tmp_path):
    run = write_run(tmp_path / "run", folds=(0,))
    path = RunFolder(run).fold(0).evaluation_json
    path.write_text(path.read_text().replace('"mean": 0.', '"mean": 0.9', 1))
    study = discover(run)
    assert study.runs[0].folds[0].evaluation is None
    (problem,) = study.problems
    assert problem.startswith(f"{path}: it has changed since it was written")
    assert "evaluates again without training" in problem
