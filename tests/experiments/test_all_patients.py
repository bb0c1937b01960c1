"""config.folds=all: the training of a final model."""

import json

import numpy as np
import pytest
from experiment_examples import config_of

from brats_jax import inference
from brats_jax.data.folds import ALL
from brats_jax.data.splits import fold_split, make_splits
from brats_jax.errors import BratsError
from brats_jax.evaluation.calibration import calibrate
from brats_jax.experiments import experiment
from brats_jax.experiments.config import parse, pretraining, segmentation, split_options
from brats_jax.experiments.grid_runner import run_grid
from brats_jax.experiments.stage_slices import StageSlices
from brats_jax.reporting.read_runs import discover
from brats_jax.runs.folder import GridFolder, RunFolder
from brats_jax.runs.metrics_jsonl import read_metrics

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def trained(small_store, compiled_programs, tmp_path_factory, shallow):
    """(run folder, configuration) of a segmentation trained on all patients."""
    config = config_of(small_store, compiled_programs, folds=("all",), ssl=False)
    workdir = tmp_path_factory.mktemp("all") / "run"
    assert experiment.run(config, workdir) is None
    return workdir, config


def test_the_last_checkpoint_is_taken_and_nothing_is_evaluated(trained, small_store, capsys):
    workdir, config = trained
    fold = RunFolder(workdir).fold(ALL)
    assert fold.path == workdir / "fold_all"
    stage = fold.stage("segment")
    assert [p.name for p in stage.best.iterdir() if p.name.isdigit()] == ["6"]
    training = json.loads(stage.training_json.read_text())
    assert training["patients"] == 8 and training["selection"] == "last"
    validated = [r for r in read_metrics(stage.metrics_jsonl) if r["event"] == "validation"]
    assert len(validated) == 2
    for name in ("summary.json", "fold_all/evaluation.json", "fold_0"):
        assert not (workdir / name).exists()
    assert json.loads((workdir / "config.json").read_text())["config"]["folds"] == "all"
    assert experiment.run(config, workdir) is None
    out = capsys.readouterr().out
    assert "all patients: ALL PATIENTS TRAIN (8)" in out
    assert "all patients segment: complete, skipped" in out
    assert "there is nothing to evaluate it on" in out


def test_evaluation_calibration_and_report_say_that_nothing_is_left_for_them(trained):
    workdir, config = trained
    with pytest.raises(BratsError, match="nothing to evaluate it on; to estimate the quality"):
        experiment.run(config, workdir, "evaluate")
    with pytest.raises(BratsError, match="there is nothing to evaluate it on, so that it is in no"):
        discover(workdir)
    model = inference.load(workdir)
    with pytest.raises(BratsError, match="there is no validation set to fit a temperature to"):
        list(calibrate(model.trained, None, 8))


def test_a_run_of_all_patients_beside_others_is_no_fold_of_the_report(trained, finished):
    other, _, _ = finished
    workdir, _ = trained
    (other.parent / "final").symlink_to(workdir)
    study = discover(other.parent)
    assert [run.name for run in study.runs] == [other.name]
    assert any("final was trained on all patients" in line for line in study.problems)


def test_the_model_is_loaded_and_exported_and_has_seen_everyone(trained, small_store, tmp_path):
    workdir, _ = trained
    model = inference.load(workdir)
    assert model.trained.seen == {*small_store.subjects} and not model.trained.notes
    assert [fold.to_json()["fold"] for fold in model.trained.describe().folds] == ["all"]
    assert inference.load(workdir / "fold_all").trained.hash == model.trained.hash


def test_a_run_of_all_patients_keeps_to_them(trained, small_store, compiled_programs):
    workdir, _ = trained
    config = config_of(small_store, compiled_programs, ssl=False)
    with pytest.raises(BratsError, match=r"was started with config\.folds=all; give another"):
        experiment.run(config, workdir)


def test_a_grid_of_all_patients_is_refused(small_store, tmp_path):
    config = config_of(small_store, tmp_path, folds=("all",))
    with pytest.raises(BratsError, match="leaves none to evaluate on"):
        run_grid(GridFolder(tmp_path / "grid"), config, "x.py", {}, asked={}, shard="0/1")
    assert not (tmp_path / "grid").exists()


@pytest.mark.parametrize("folds", [("0,all",), (ALL,), ("none",)])
def test_no_other_text_is_taken_for_all(small_store, tmp_path, folds):
    config = config_of(small_store, tmp_path, folds=folds)
    with pytest.raises(BratsError, match=r"config\.folds|'folds'"):
        experiment.run(config, tmp_path / "run")


def test_each_stage_trains_on_everyone_it_can_use_with_any_label_budget(mixed_store, tmp_path):
    def slices_of(**changes):
        settings = parse(config_of(mixed_store, tmp_path, folds=("all",), **changes))
        splits = make_splits(mixed_store, **split_options(settings))
        return StageSlices(settings, mixed_store, splits, fold_split(splits, mixed_store, ALL), ALL)

    def names_of(indices):
        return {mixed_store.patients[p] for p in np.unique(mixed_store.patient_of[indices])}

    data = slices_of()
    pretext, segment = pretraining(data.settings), segmentation(data.settings)
    assert names_of(data.training(pretext)) == {*mixed_store.patients} - {"U2"}  # without FLAIR
    labelled = {f"L{k}" for k in range(6)}
    assert names_of(data.training(segment)) == labelled
    for task in (pretext, segment):
        assert data.selection(
            task
        ) == "last" and "the last checkpoint is taken" in data.selection_note(task)
        shown = names_of(data.validation(task))
        assert shown and shown < names_of(data.training(task))
    few = slices_of(data__label_patients=5)
    assert len(names_of(few.training(segment))) == 5 and few.selection(segment) == "last"
    assert not len(few.held_out(segment))
