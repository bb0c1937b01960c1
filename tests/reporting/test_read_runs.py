"""Runs, grids and folders of runs, read from disk."""

import json
import shutil

import pytest
from report_examples import write_run
from report_pages import read, table

from brats_jax.data.splits import Splits
from brats_jax.errors import BratsError
from brats_jax.evaluation import summary
from brats_jax.reporting.read_runs import discover
from brats_jax.runs.documents import REEVALUATE_HINT
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.files import write_json


def test_a_run_is_read_with_its_folds_and_stages(tmp_path):
    study = discover(write_run(tmp_path / "run", folds=(0, 2), wanted=(0, 1, 2), loss="focal"))
    (run,) = study.runs
    assert (study.kind, run.name, run.loss, run.ssl, run.fraction) == (
        "run", "run", "focal", True, 1.0,
    )  # fmt: skip
    assert (list(run.folds), run.requested_folds) == ([0, 2], (0, 1, 2))
    stage = run.folds[2].stages["segment"]
    assert stage.result.best_step == 8
    assert [epoch for epoch, _ in stage.curve("validation")] == [1, 2, 3, 4]
    assert study.problems == [] and not run.is_phantom


def test_patients_that_train_only_count_as_training_patients(tmp_path):
    """Five folds of two, and two who train in each: 8 + 2 train, of whom 5 have labels."""
    path = write_run(tmp_path / "run", settings={"data.label_patients": 5})
    folds = tuple((f"P{k}", f"Q{k}") for k in range(5))
    splits = Splits("patient", 0, 0.15, 5, ("A",), ("A",), folds, training_only=("X", "Y"))
    splits.write(RunFolder(path).splits_json)
    assert discover(path).runs[0].fraction == 0.5


def test_a_folder_is_searched_for_runs_down_to_the_third_level(tmp_path):
    for path in ("a", "b/c", "d/e/f", "d/e/f2/g", "report/x"):
        write_run(tmp_path / path, stages=("segment",), ssl=False)
    assert [run.name for run in discover(tmp_path).runs] == ["a", "b/c", "d/e/f"]


def test_a_phantom_run_is_recognised(tmp_path):
    assert discover(write_run(tmp_path / "run", source="phantom")).runs[0].is_phantom


@pytest.mark.parametrize(
    "name", ["splits.json", "fold_0/evaluation.json", "fold_0/segment/complete.json"]
)
def test_an_unreadable_file_is_named_and_the_rest_is_read(tmp_path, name):
    run = write_run(tmp_path / "run")
    (run / name).write_text("{")
    study = discover(run)
    assert len(study.problems) == 1 and str(run / name) in study.problems[0]
    assert list(study.runs[0].folds) == [0]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"config": 3}'])
def test_a_folder_without_a_readable_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(BratsError, match="no run there"):
        discover(tmp_path)
    with pytest.raises(BratsError, match="no such folder"):
        discover(tmp_path / "gone")


def test_an_evaluation_of_another_version_is_named_and_not_used(tmp_path):
    for fold in (0, 1):
        write_run(tmp_path / "run", folds=(fold,), wanted=(0, 1), error=0.2 + 0.5 * fold)
    path = tmp_path / "run" / "fold_1" / "evaluation.json"
    document = json.loads(path.read_text())
    write_json(path, {**document, "version": document["version"] - 1})
    _, words = read(tmp_path)
    assert "run: fold 1 not evaluated" in words
    assert "fold_1/evaluation.json: not a version 3 brats_jax.evaluation file" in words
    assert REEVALUATE_HINT in words
    assert {
        row["Fold"] for row in table(tmp_path, "appendix_table_4") if row["From"] == "ours"
    } == {"1"}
    # The printed summary leaves it out too.
    assert [d.fold for d in summary.read_evaluations(RunFolder(tmp_path / "run"), 5)] == [0]
    path.with_name("evaluation.json").write_text("{")
    assert [d.fold for d in summary.read_evaluations(RunFolder(tmp_path / "run"), 5)] == [0]
    shutil.copy(path, tmp_path / "run" / "fold_0")
    assert "No evaluation of this version of the program was found" in read(tmp_path)[1]
