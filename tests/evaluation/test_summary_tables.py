"""The printed tables of a summary."""

import dataclasses
import math

import pytest
from tally_examples import evaluated_run, evaluation_of, tally_of, two_patients

from brats_jax.evaluation.conventions import scores_of
from brats_jax.evaluation.rows import find_row, rows_of
from brats_jax.evaluation.summary import summarise_run
from brats_jax.evaluation.summary_tables import format_summary
from brats_jax.runs.documents import Score
from brats_jax.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path):
    return evaluated_run(tmp_path)


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
    assert "ASD mm of NCR/NET over volumes: fold 0 of 0, 1 has no value" in text
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


def test_the_table_of_volumes_counts_patients_and_not_slices(tmp_path):
    prediction, truth, sizes = two_patients()
    rows = rows_of("segment", scores_of(tally_of(prediction, truth, sizes)))
    run = RunFolder(tmp_path)
    evaluation_of(0, rows).write(run.fold(0).evaluation_json)
    text = format_summary(summarise_run(run, 1))
    by_slice, in_space = text.split("  by patient, in 3D")
    # NCR/NET: missed in the only slice, of the only patient, that has any.
    # ET: invented in one of five slices, of one of two patients.
    assert _ends(by_slice) == {
        "NCR/NET": "373.13 (1) 1 of 1 0 of 4",
        "ET": "373.13 (1) 0 of 0 1 of 5",
    }
    assert _ends(in_space) == {
        "NCR/NET": "373.13 (1) 1 of 1 0 of 1",
        "ET": "373.13 (1) 0 of 0 1 of 2",
    }


def _ends(table):
    """By region, the last three columns: penalised ASD, missed, invented."""
    lines = [line.split() for line in table.splitlines()]
    return {line[0]: " ".join(line[-8:]) for line in lines if line[:1] in (["NCR/NET"], ["ET"])}


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
