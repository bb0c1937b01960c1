"""Numbers that an average leaves out are counted and named."""

import dataclasses
import json

import pytest
from report_examples import write_run
from report_pages import read, secondary, table

from brats_jax.evaluation.conventions import scores_of
from brats_jax.evaluation.rows import rows_of
from brats_jax.evaluation.tallies import SCORED, SegmentationTally
from brats_jax.runs.documents import Evaluation
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_document
from brats_jax.runtime.files import write_json

pytestmark = pytest.mark.usefixtures("empty_figures")

ET = list(SCORED).index("ET")


def _without_row(run, fold, *, mean, count):
    """Gives the fold's ASD of ET in 3D another mean and count, in evaluation.json."""
    path = RunFolder(run).fold(fold).evaluation_json
    document = json.loads(path.read_text())
    for row in document["rows"]:
        if (row["over"], row["of"], row["metric"]) == ("volumes", "ET", "asd_mm"):
            row["mean"], row["count"] = mean, count
    write_json(path, {**document, "sha256": ""})


@pytest.fixture(scope="module")
def two_folds(tmp_path_factory):
    """ASD of ET: none in the first fold, 45.3 over four patients in the second."""
    folder = tmp_path_factory.mktemp("two")
    run = write_run(folder / "base", ssl=False, folds=(0, 1), patients=8)
    _without_row(run, 0, mean=None, count=0)
    _without_row(run, 1, mean=45.3, count=4)
    return folder


def test_the_report_names_the_fold_without_a_distance(two_folds):
    _, words = read(two_folds)
    assert "45.30 (0 to 4 of 8)" in words
    assert "Mean over 1 of 2 trainings: no value in fold 0." in words
    row = next(r for r in table(two_folds, "volumes_dice_ce") if r["Region"] == "ET")
    names = ("n", "least n", "of")
    assert [row[f"ASD (mm) pooled {name}"] for name in names] == ["4", "0", "8"]
    assert row["ASD (mm) pooled trainings"] == "1 of 2"
    # One of eight patients has no ET; both folds find it in the others.
    assert (row["Missed"], row["Trainings"]) == ("0 of 14", "2")
    assert row["Invented"].endswith(" of 2")


def test_an_arm_that_misses_more_does_not_look_better(tmp_path):
    """Predictions without ET in half of the patients: their plain ASD is over the others."""
    for ssl in (True, False):
        run = write_run(tmp_path / f"ssl_{ssl}", ssl=ssl, patients=8, stages=("segment",))
    path = RunFolder(run).fold(0).tally("segment")
    tally, facts = SegmentationTally.load(path)
    r = ET
    held = tally.counts[:, r, 0] + tally.counts[:, r, 2]
    late = tally.slices.patient >= 4
    counts = tally.counts.copy()
    counts[late, r, 2] = held[late]
    counts[late, r, 0] = counts[late, r, 1] = 0
    volume = {name: x.copy() for name, x in tally.volume_surface._asdict().items()}
    for name in volume:
        volume[name][4:, r] = 0 if name.startswith("n_") else float("nan")
    volume["n_gt"][4:, r] = 10
    edges = type(tally.volume_surface)(**volume)
    tally = dataclasses.replace(tally, counts=counts, volume_surface=edges)
    tally.save(path, facts)
    evaluation = read_document(RunFolder(run).fold(0).evaluation_json, Evaluation)
    rows = tuple(rows_of("segment", scores_of(tally)))
    dataclasses.replace(evaluation, rows=rows).write(RunFolder(run).fold(0).evaluation_json)
    read(tmp_path)
    rows = {row["Quantity"]: row for row in secondary(tmp_path)}
    plain, penalised = rows["3D ASD of ET (mm)"], rows["3D ASD of ET, with penalty (mm)"]
    assert (plain["n patients"], plain["of patients"]) == ("3", "8")
    assert (plain["Missed by baseline"], plain["Missed by SSL"]) == ("4 of 7", "0 of 7")
    assert float(penalised["Mean baseline"]) > 200 > float(penalised["Mean SSL"])
    assert penalised["n patients"] in ("7", "8")


def test_trainings_without_both_values_are_named_in_the_comparison(tmp_path):
    for ssl in (True, False):
        write_run(tmp_path / f"{ssl}", ssl=ssl, folds=(0, 1), patients=6, stages=("segment",))
    path = RunFolder(tmp_path / "True").fold(1).tally("segment")
    tally, facts = SegmentationTally.load(path)
    volume = {name: x.copy() for name, x in tally.volume_surface._asdict().items()}
    for name in volume:  # ET is missed in every patient of the second fold
        volume[name][:, ET] = 0 if name.startswith("n_") else float("nan")
    edges = type(tally.volume_surface)(**volume)
    dataclasses.replace(tally, volume_surface=edges).save(path, facts)
    _, words = read(tmp_path)
    row = next(r for r in secondary(tmp_path) if r["Quantity"] == "3D ASD of ET (mm)")
    assert row["Trainings"] == "1 of 2; left out without both values: fold 1 in 5 patients"
    assert "1 of 2 trainings of each; left out without both values: fold 1 in 5 patients" in words


def test_an_evaluation_without_the_counts_of_misses_is_completed_from_its_tally(tmp_path):
    """As version 0.1.0 wrote it."""
    run = write_run(tmp_path / "run", ssl=True)
    path = RunFolder(run).fold(0).evaluation_json
    document = json.loads(path.read_text())
    new = {"missed", "invented"}
    document["rows"] = [
        row
        for row in document["rows"]
        if row["metric"] not in new
        and row["convention"] != "penalised"
        and (row["stage"], row["over"]) != ("pretrain", "tumour slices")
    ]
    del document["sha256"]
    write_json(path, document)
    read(tmp_path)
    row = next(r for r in table(tmp_path, "volumes_dice_ce") if r["Region"] == "ED")
    assert row["Missed"] == "0 of 4" and row["ASD (mm) pooled, with penalty"]
    assert table(tmp_path, "table_1")[0]["ours, slices with tumour n"] == "16"
