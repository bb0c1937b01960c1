"""The summary of a run: means over its folds, as documents."""

import math

import pytest
from tally_examples import evaluated_run, evaluation_of, tally_of, two_patients

from brats_jax.evaluation.conventions import scores_of
from brats_jax.evaluation.rows import find_row, rows_of
from brats_jax.evaluation.summary import read_evaluations, summarise_run
from brats_jax.evaluation.summary_tables import format_summary
from brats_jax.runs.documents import Summary
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_document


@pytest.fixture
def run(tmp_path):
    return evaluated_run(tmp_path)


def test_the_mean_is_over_the_folds_that_have_the_number(run):
    summary = summarise_run(run, 3)
    assert (summary.folds, summary.of_folds) == ((0, 2), 3)
    dice = {"over": "all slices", "metric": "dice", "convention": "present_only"}
    ed = find_row(summary.rows, of="ED", **dice)
    first = (1 + 24 / 28) / 2
    assert ed.mean == pytest.approx((first + 1) / 2) and ed.folds == 2 and ed.count == 2
    assert ed.sd_over_folds == pytest.approx((1 - first) / math.sqrt(2))
    # ET is only in the first fold's prediction: the second fold has no Dice of it.
    et = find_row(summary.rows, of="ET", **dice)
    assert (et.mean, et.sd_over_folds, et.folds, et.count) == (0.0, None, 1, 1)
    assert (et.least_count, et.of_count, et.folds_without) == (0, 5, (2,))


def test_in_a_cross_validation_the_patients_of_all_folds_are_counted(tmp_path):
    run = RunFolder(tmp_path)
    prediction, truth, sizes = two_patients()
    for fold, predicted in ((0, prediction), (1, truth)):
        rows = rows_of("segment", scores_of(tally_of(predicted, truth, sizes)))
        evaluation_of(fold, rows, "cross-validation").write(run.fold(fold).evaluation_json)
    summary = summarise_run(run, 2)
    ed = find_row(
        summary.rows, of="ED", over="all slices", metric="dice", convention="present_only"
    )
    assert (summary.patients, ed.count, ed.least_count) == (4, 4, None)
    # ET: invented in one of five slices of the first fold; in none of the second's two.
    invented = find_row(summary.rows, of="ET", over="all slices", metric="invented")
    assert (invented.mean * invented.count) == pytest.approx(1)
    assert (
        "Cross-validation: 4 patients, each tested by the fold that it does not train, all slices, "
        "split by patient; pooled over fold 0, 1 of 2"
    ) in format_summary(summary)


def test_the_summary_is_written_as_json_and_csv(run):
    summary = summarise_run(run, 3)
    assert read_document(run.summary_json, Summary) == summary
    head, *lines = run.summary_csv.read_text().splitlines()
    assert head.startswith("stage,unit,over,of,metric,convention,mean,sd_over_folds,folds,count,")
    assert len(lines) == len(summary.rows)


def test_an_evaluation_of_another_version_is_left_out(run):
    path = run.fold(0).evaluation_json
    path.write_text(path.read_text().replace('"version": 3', '"version": 2'))
    assert [evaluation.fold for evaluation in read_evaluations(run, 3)] == [2]
