"""Runs of commit a5fd08e are evaluated, skipped and continued."""

import shutil

import pytest
from compatibility_examples import (
    SAME_WEIGHTS,
    SETTINGS,
    TRAINED_ON,
    assert_same,
    same_bits_expected,
)

# `run` alone is calibrated.
UNCALIBRATED = ("calibration.json",)


def contents(folder):
    """All but the locks, which hold nothing when nobody holds them."""
    paths = [path for path in sorted(folder.rglob("*")) if path.name != "lock"]
    return {path: path.read_bytes() for path in paths if path.is_file()}


def modified(folder):
    """The times at which what a training and an evaluation leave was written."""
    names = ("metrics.jsonl", "complete.json", "evaluation.json", "_METADATA", "*.npz", "*.csv")
    paths = [path for name in names for path in folder.glob(f"fold_*/**/{name}")]
    assert len(paths) > 20
    return {path: path.stat().st_mtime_ns for path in paths}


def test_this_machine_compares_bits():
    if not same_bits_expected():
        pytest.skip("results are compared to a tolerance: other processor or libraries")


def test_a_complete_run_is_skipped_and_not_written_again(left, run):
    before, times = contents(left / "run"), modified(left / "run")
    printed = run("main", "--workdir=run", *SETTINGS)
    assert printed.count("complete, skipped") == 6  # of each fold: two stages, the evaluation
    assert contents(left / "run") == before and modified(left / "run") == times


@pytest.mark.parametrize("stage", ["pretrain", "segment"])
def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not(left, run, stage):
    workdir = left / f"stopped_{stage}"
    # Of the first stage the first one alone: the second one continues below.
    mode = "--mode=pretrain" if stage == "pretrain" else "--mode=train"
    printed = run("main", f"--workdir={workdir.name}", *SETTINGS, "--config.folds=(0,)", mode)
    assert f"fold 0 {stage}: continues from step " in printed
    # What a complete stage has saved last was left out where it is not read.
    without = (*UNCALIBRATED, *(["pretrain/last"] if stage == "segment" else ["segment"]))
    assert_same(left / "run" / "fold_0", workdir / "fold_0", TRAINED_ON, without=without)


def test_evaluated_and_calibrated_again_the_results_are_the_same(left, run):
    again = left / "again"
    shutil.copytree(left / "run", again)
    for path in (*again.glob("fold_*/*.csv"), *again.glob("fold_*/calibration.json")):
        path.unlink()
    before = modified(left / "run")
    run("main", "--workdir=again", "--mode=evaluate", *SETTINGS)
    run("calibrate", "--checkpoint=again")
    assert_same(left / "run", again, SAME_WEIGHTS)
    assert modified(left / "run") == before
