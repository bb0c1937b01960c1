"""Warnings and missing results."""

import pytest
from report_examples import write_run

from brats_jax.reporting import caveats, comparisons
from brats_jax.reporting.arms import collect
from brats_jax.reporting.read_runs import GridCell, discover
from brats_jax.runs.folder import RunFolder


def warnings_of(folder, cells=(), missing=()):
    study = discover(folder)
    study.cells = list(cells)
    results = collect(study)
    return " ".join(caveats.warnings(study, results, comparisons.primary(results), missing))


def missing_of(folder, cells=()):
    study = discover(folder)
    study.cells = list(cells)
    return list(caveats.missing(study, collect(study)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "phantom"}, "All of these patients are synthetic (the phantom)"),
        ({"split_by": "slice"}, "every test score is too good"),
        ({"patients": 4}, "The test set has 4 patients, which is too few for a conclusion."),
    ],
)
def test_a_reason_for_care_is_a_warning(tmp_path, options, words):
    assert words in warnings_of(write_run(tmp_path / "run", ssl=False, **options))


def test_a_run_without_any_reason_for_care_has_no_warning(tmp_path):
    assert warnings_of(write_run(tmp_path / "run", ssl=False, patients=15)) == ""


def test_some_phantom_runs_are_distinguished_from_all(tmp_path):
    write_run(tmp_path / "a", ssl=False, source="phantom")
    write_run(tmp_path / "b", ssl=False)
    assert "Some of these patients are synthetic" in warnings_of(tmp_path)


def test_a_test_that_cannot_find_a_difference_is_a_warning(tmp_path):
    for ssl in (True, False):
        write_run(tmp_path / str(ssl), ssl=ssl, patients=5, stages=("segment",))
    words = warnings_of(tmp_path)
    assert "cannot find a difference between SSL and baseline of any size: its p" in words
    assert "its p cannot be below 0.062." in words


def test_a_correction_that_hides_every_difference_is_a_warning(tmp_path):
    for ssl in (True, False):
        write_run(tmp_path / str(ssl), ssl=ssl, patients=6, stages=("segment",))
    words = warnings_of(tmp_path)
    assert "its p cannot be below 0.031, and the correction multiplies it by up to 3." in words


def test_an_evaluation_before_the_end_of_training_is_a_warning(tmp_path):
    run = write_run(tmp_path / "run", ssl=False, patients=15)
    RunFolder(run).fold(0).stage("segment").complete_json.unlink()
    assert warnings_of(run) == "Evaluated before the end of training: run fold 0."


def test_settings_that_separate_runs_are_a_warning(tmp_path):
    write_run(tmp_path / "a", ssl=False, settings={"segment.epochs": 7})
    write_run(tmp_path / "b", ssl=False)
    assert ": segment.epochs = 30; segment.epochs = 7. Runs with" in warnings_of(tmp_path)


def test_a_setting_of_the_pretraining_is_a_warning_only_where_ssl_arms_differ_in_it(tmp_path):
    write_run(tmp_path / "base", ssl=False)
    write_run(tmp_path / "a", settings={"pretrain.decoder": "unet"})
    write_run(
        tmp_path / "b", stages=("pretrain",), settings={"pretrain.decoder": "transposed"}
    )  # not compared
    assert "unet" not in warnings_of(tmp_path)
    write_run(tmp_path / "c", settings={"pretrain.decoder": "transposed"})
    words = warnings_of(tmp_path)
    assert (
        "SSL runs differ in their pretraining or what it transfers, which a baseline does not "
        "have: decoder transposed; decoder unet. They are never averaged, and each is compared "
        "with the same baseline."
    ) in words
    assert "differ in more than" not in words


def test_failed_trainings_and_missing_results_are_counted(tmp_path):
    run = write_run(tmp_path / "run", ssl=False, patients=15)
    cells = [GridCell("a", "a", 0, "failed", "no memory", 1), GridCell("b", "b", 0, "done", "", 1)]
    words = warnings_of(run, cells, missing=("one", "two"))
    assert "1 training of the grid failed (of 2)" in words
    assert "Incomplete: 2 items missing" in words


def test_missing_configurations_folds_and_trainings_are_named(tmp_path):
    run = write_run(tmp_path / "run", ssl=False, folds=(0,), wanted=(0, 1))
    fold = RunFolder(run).fold(2)
    fold.path.mkdir()
    cells = [GridCell("a", "a", 0, "failed", "no memory", 1), GridCell("b", "b", 0, "left", "", 0)]
    configurations, folds, failed, left = missing_of(run, cells)
    assert "Dice + CE with SSL" in configurations
    assert "Dice + CE without SSL" not in configurations
    assert folds == "run: fold 1 not begun."
    assert failed == "Grid: a failed: no memory."
    assert left == "Grid: 1 training not done yet (left)."


def test_a_training_that_has_not_ended_is_the_reason_for_no_evaluation(tmp_path):
    run = write_run(tmp_path / "run", ssl=False)
    fold = RunFolder(run).fold(0)
    fold.evaluation_json.unlink()
    fold.stage("segment").complete_json.unlink()
    assert missing_of(run) == [
        "No segmentation has been evaluated.",
        "run: fold 0 not evaluated, its segmentation is not complete.",
    ]


def test_two_runs_of_one_training_count_as_one(tmp_path):
    for name in ("first", "again"):
        write_run(tmp_path / name, ssl=False)
    write_run(tmp_path / "ssl", ssl=True)
    study = discover(tmp_path)
    results = collect(study)
    primary = comparisons.primary(results)
    assert {c.result.trainings for c in primary} == {1}
    words = list(caveats.warnings(study, results, primary, ()))
    assert any(w.startswith("again and first have the same settings, fold and seed") for w in words)
    assert any("compared for this training only" in w for w in words)
