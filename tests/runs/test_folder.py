from pathlib import Path

import pytest

from brats_jax.runs.folder import (
    GridFolder,
    PredictionFolder,
    RunFolder,
    checkpoint_steps,
    find_runs,
    fold_number,
    locate_fold,
    pretraining_in_grid,
)


def begin_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_the_layout_is_that_of_the_first_version():
    run, grid, case = RunFolder(Path("R")), GridFolder(Path("G")), PredictionFolder(Path("P"))
    fold = run.fold(3)
    stage = fold.stage("pretrain")
    assert [str(path) for path in (run.config_json, run.splits_json, run.summary_csv)] == [
        "R/config.json", "R/splits.json", "R/summary.csv",
    ]  # fmt: skip
    assert str(fold.evaluation_json) == "R/fold_3/evaluation.json"
    assert str(fold.tally("segment")) == "R/fold_3/tally_segment.npz"
    assert str(fold.patients_csv("segment")) == "R/fold_3/evaluation_segment_patients.csv"
    assert str(fold.segmentation_npz) == "R/fold_3/panels/segmentation.npz"
    assert str(stage.complete_json) == "R/fold_3/pretrain/complete.json"
    assert str(stage.metrics_jsonl) == "R/fold_3/pretrain/metrics.jsonl"
    assert (
        str(grid.cell_lock("a")) == "G/cells/a.lock" and str(grid.cell_log("a")) == "G/logs/a.log"
    )
    assert str(pretraining_in_grid("seed_0")) == "pretraining/seed_0"
    assert str(case.synthetic("A", "flair")) == "P/A_flair_synthetic.nii.gz"
    assert str(case.probability("A", "WT")) == "P/A_prob_WT.nii.gz"


@pytest.mark.parametrize(
    ("name", "number"),
    [("fold_0", 0), ("fold_12", 12), ("fold_", None), ("fold_x", None), ("fold_-1", None)],
)
def test_a_fold_is_known_by_its_name(name, number):
    assert fold_number(name) == number


def test_folds_come_by_number(tmp_path):
    for name in ("fold_10", "fold_2", "fold_x", "panels"):
        (tmp_path / name).mkdir()
    (tmp_path / "fold_3").touch()  # a file
    assert [fold.number for fold in RunFolder(tmp_path).folds()] == [2, 10]
    assert RunFolder(tmp_path / "none").folds() == []


def test_a_checkpoint_path_names_a_run_or_one_fold(tmp_path):
    run = begin_run(tmp_path / "run")
    assert locate_fold(run) == (RunFolder(run), None)
    assert locate_fold(run / "fold_4") == (RunFolder(run), 4)
    assert locate_fold(run / "segment") is None
    assert locate_fold(tmp_path / "fold_0") is None


def test_runs_are_found_below_a_folder_but_not_inside_each_other(tmp_path):
    for name in ("b", "a/one", "a/two/three", "a/two/three/four", "cells/x", "report/x", ".hidden"):
        begin_run(tmp_path / name)
    found = [str(run.path.relative_to(tmp_path)) for run in find_runs(tmp_path)]
    assert found == ["a/one", "a/two/three", "b"]
    assert [run.path.name for run in find_runs(tmp_path, depth=1)] == ["b"]


def test_only_whole_checkpoints_have_a_step(tmp_path):
    for name in ("8", "16.orbax-checkpoint-tmp", "12"):
        (tmp_path / name).mkdir()
    assert sorted(checkpoint_steps(tmp_path)) == [8, 12]
    assert checkpoint_steps(tmp_path / "none") == []
