"""The summary of a run: means over its folds, as documents and as printed tables."""

import dataclasses
import math

import pytest
from tally_examples import tally_of, two_patients

from brats_jax.evaluation.conventions import scores_of
from brats_jax.evaluation.rows import find_row, rows_of
from brats_jax.evaluation.summary import format_summary, read_evaluations, summarise_run
from brats_jax.runs.documents import EvaluatedCheckpoint, Evaluation, Score, Summary
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_document


@pytest.fixture
def run(tmp_path):
    """Two of three folds evaluated; the second finds everything."""
    run = RunFolder(tmp_path)
    prediction, truth, sizes = two_patients()
    for fold, predicted in ((0, prediction), (2, truth)):
        rows = rows_of("segment", scores_of(tally_of(predicted, truth, sizes)))
        evaluation_of(fold, rows).write(run.fold(fold).evaluation_json)
    return run


def evaluation_of(fold, rows, of_set="test"):
    return Evaluation(
        fold=fold,
        set=of_set,
        slices="all",
        split_by="patient",
        patients=2,
        inputs=("t1", "t1gd"),
        target="flair",
        loss="dice_ce",
        ssl=True,
        tolerance_mm=1.0,
        checkpoints={"segment": EvaluatedCheckpoint(5, 1, 0.5)},
        rows=tuple(rows),
    )


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


def test_the_printed_tables_state_convention_and_number_of_units(run):
    text = format_summary(summarise_run(run, 3))
    assert "Test set: 2 patients, all slices, split by patient; mean over fold 0, 2 of 3" in text
    (line,) = [line for line in text.splitlines() if line.startswith("    ED  ")][:1]
    dice_and_asd = ["0.3857", "(5)", "0.9643", "(2)", "0.9857", "(5)", "0.00", "(2)"]
    # In two folds ED is in two slices of five, and found in each.
    assert line.split()[1:] == [*dice_and_asd, "0.00", "(2)", "0", "of", "4", "0", "of", "6"]
    assert "present_only: slices where the class is in either mask" in text
    assert "SSL" in text and "too good" not in text


def test_a_fold_without_a_number_is_named(tmp_path):
    """NCR is found in the second fold only: its ASD is that of one fold."""
    run = RunFolder(tmp_path)
    prediction, truth, sizes = two_patients()
    for fold, predicted in ((0, prediction), (1, truth)):
        rows = rows_of("segment", scores_of(tally_of(predicted, truth, sizes)))
        evaluation_of(fold, rows).write(run.fold(fold).evaluation_json)
    summary = summarise_run(run, 2)
    text = format_summary(summary)
    assert "NCR/NET asd_mm both_present over volumes: fold 0 of 0, 1 has no value" in text
    by_slice = next(line for line in text.splitlines() if line.startswith("    NCR/NET"))
    # One of the two folds misses it in its one slice, which costs 373.13 mm.
    assert by_slice.endswith(
        "0.00 (0 to 1)        186.56 (1)           1 of 2               0 of 8"
    )
    line = next(
        row for row in run.summary_csv.read_text().splitlines()
        if row.startswith("segment,slice,all slices,NCR/NET,asd_mm,both_present")
    )  # fmt: skip
    assert line.split(",")[8:13] == ["1", "1", "0", "5", "0"]


def test_the_penalty_and_the_misses_stand_beside_the_plain_distance(tmp_path):
    prediction, truth, sizes = two_patients()
    rows = rows_of("segment", scores_of(tally_of(prediction, truth, sizes)))
    penalty = math.sqrt(240**2 + 240**2 + 155**2)
    by_slice = {"unit": "slice", "over": "all slices"}
    # ET: invented in one slice, and nowhere in the truth.
    et = find_row(rows, of="ET", metric="asd_mm", convention="penalised", **by_slice)
    assert et.mean == pytest.approx(penalty) and et.count == 1
    plain = find_row(rows, of="ET", metric="hd95_mm", convention="both_present", **by_slice)
    assert (plain.mean, plain.count) == (None, 0)
    invented = find_row(rows, of="ET", metric="invented", **by_slice)
    assert (invented.mean, invented.count) == (pytest.approx(1 / 5), 5)
    missed = find_row(rows, of="NCR/NET", metric="missed", unit="patient", over="volumes")
    assert (missed.mean, missed.count) == (1.0, 1)
    assert find_row(rows, of="ET", metric="missed", **by_slice).mean is None


def test_a_split_by_slice_is_printed_with_a_warning(run):
    summary = dataclasses.replace(summarise_run(run, 3), split_by="slice")
    assert "split by slice  (patients on both sides: too good)" in format_summary(summary)


@pytest.mark.parametrize(("mse", "verdict"), [(0.5, "beats"), (0.7, "does NOT beat")])
def test_the_printed_table_says_whether_the_network_beats_the_regression(tmp_path, mse, verdict):
    rows = [
        Score(stage, "slice", "all slices", "brain", "mse", "", mean, 4)
        for stage, mean in (("pretrain", mse), ("regression", 0.6), ("mean", 1.0))
    ]
    run = RunFolder(tmp_path)
    evaluation_of(0, rows).write(run.fold(0).evaluation_json)
    printed = format_summary(summarise_run(run, 1)).splitlines()
    brain = printed.index(f"  brain, all slices       {mse:.4f} (4)")
    assert printed[brain + 1] == "    regression            0.6000 (4)"
    assert printed[brain + 2] == "    mean                  1.0000 (4)"
    assert (
        f"  the network {verdict} the regression over the brain: MSE {mse:.4f} against 0.6000, "
        in ("".join(printed))
    )
    assert any(line.startswith("  regression: 9 numbers per voxel, of 1, T1, ") for line in printed)


@pytest.mark.parametrize("pretext", ["cross_modality", "any_to_any"])
def test_a_long_title_leaves_the_columns_in_their_places(pretext, tmp_path):
    row = Score("pretrain", "slice", "all slices", "slice", "mse", "", mean=0.5, count=9)
    evaluation = dataclasses.replace(evaluation_of(0, [row]), pretext=pretext)
    evaluation.write(RunFolder(tmp_path).fold(0).evaluation_json)
    lines = format_summary(summarise_run(RunFolder(tmp_path), 3)).splitlines()
    (head,) = [line for line in lines if "MSE (slices)" in line]
    (values,) = [line for line in lines if "0.5000 (9)" in line]
    assert head.index("MSE (slices)") == values.index("0.5000 (9)")
    assert any(line.startswith("FLAIR from T1, T1Gd") for line in lines)
