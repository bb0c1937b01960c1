"""Numbers of a run that has been evaluated: where they come from, and when they are made anew."""

import csv
import json

import numpy as np
import pytest
from tally_examples import tally_of, two_patients

from brats_jax.data.modalities import CLASSES
from brats_jax.evaluation import rows
from brats_jax.evaluation.conventions import scores_of
from brats_jax.evaluation.rows import find_row
from brats_jax.evaluation.tallies import SegmentationTally
from brats_jax.experiments import experiment
from brats_jax.runs.documents import Evaluation
from brats_jax.runs.folder import FoldFolder
from brats_jax.runtime.document import read_document

pytestmark = pytest.mark.usefixtures("shallow")


def test_numbers_in_the_tables_come_from_the_slices(finished):
    """The table of slices, averaged here by hand, gives the printed numbers."""
    workdir, _, summary = finished
    with (workdir / "fold_0" / "evaluation_segment.csv").open() as file:
        rows = list(csv.DictReader(file))
    printed = {(r.of, r.metric, r.convention): r for r in summary.rows if r.over == "all slices"}
    for name in CLASSES:
        tp, fp, fn = (np.array([int(r[f"{name} {x}"]) for r in rows]) for x in ("tp", "fp", "fn"))
        present = tp + fp + fn > 0
        dice = 2 * tp / np.maximum(2 * tp + fp + fn, 1)
        assert printed[name, "dice", "paper"].mean == pytest.approx(dice.mean())
        row = printed[name, "dice", "present_only"]
        assert row.count == present.sum()
        if present.any():
            assert row.mean == pytest.approx(dice[present].mean())
        both = np.where(present, dice, 1).mean()
        assert printed[name, "dice", "both_empty_1"].mean == pytest.approx(both)
        distances = [float(r[f"{name} asd_mm"]) for r in rows if r[f"{name} asd_mm"]]
        assert printed[name, "asd_mm", "both_present"].count == len(distances)
    with (workdir / "fold_0" / "evaluation_pretrain.csv").open() as file:
        ssim = [float(r["slice ssim"]) for r in csv.DictReader(file) if r["slice ssim"]]
    assert printed["slice", "ssim", "target range"].mean == pytest.approx(np.mean(ssim), abs=1e-5)


def test_volumes_are_the_slices_put_together(finished):
    """The patient's Dice in space is that of the slices' counts added up."""
    workdir, _, summary = finished
    with (workdir / "fold_0" / "evaluation_segment.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (workdir / "fold_0" / "evaluation_segment_patients.csv").open() as file:
        (patient,) = csv.DictReader(file)
    tp, fp, fn = (sum(int(r[f"WT {x}"]) for r in rows) for x in ("tp", "fp", "fn"))
    expected = 2 * tp / (2 * tp + fp + fn)
    assert float(patient["WT dice (brats2020)"]) == pytest.approx(expected, rel=1e-5)
    found = find_row(summary.rows, over="volumes", of="WT", metric="dice", convention="brats2020")
    assert found.mean == pytest.approx(expected) and found.count == 1


def test_without_whole_volumes_no_table_of_them_stays(tmp_path):
    """As when tumour slices alone are evaluated after all of them."""
    prediction, truth, sizes = two_patients()
    for whole in (True, False):
        tally = tally_of(prediction, truth, sizes, whole=[whole, whole])
        rows.write_unit_tables(FoldFolder(tmp_path), "segment", tally, scores_of(tally))
        assert (tmp_path / "evaluation_segment_patients.csv").exists() == whole
    assert (tmp_path / "evaluation_segment.csv").exists()


def test_evaluation_says_what_it_is_over(finished, small_store):
    workdir, _, _ = finished
    evaluation = read_document(workdir / "fold_0" / "evaluation.json", Evaluation)
    assert (evaluation.set, evaluation.split_by, evaluation.patients) == ("test", "patient", 1)
    background = find_row(
        evaluation.rows, stage="segment", over="all slices", of="background", convention="paper"
    )
    assert background.count == 16
    splits = json.loads((workdir / "splits.json").read_text())
    with (workdir / "fold_0" / "evaluation_segment.csv").open() as file:
        assert {r["patient"] for r in csv.DictReader(file)} == set(splits["test"])


def test_evaluate_restores_and_gives_the_same_numbers(finished):
    workdir, config, summary = finished
    with config.unlocked():
        again = experiment.run(config, workdir, "evaluate")
    assert again.rows == summary.rows


def test_an_evaluation_of_another_checkpoint_is_not_taken_for_this_one(finished, capsys):
    workdir, config, summary = finished
    path = workdir / "fold_0" / "evaluation.json"
    document = json.loads(path.read_text())
    document["checkpoints"]["segment"]["step"] = 1
    path.write_text(json.dumps(document))
    assert experiment.run(config, workdir).rows == summary.rows
    assert "evaluating 16 test slices" in capsys.readouterr().out
    assert json.loads(path.read_text())["checkpoints"]["segment"]["step"] > 1


def test_an_evaluation_without_its_tally_is_made_again(finished, capsys):
    workdir, config, summary = finished
    tally = workdir / "fold_0" / "tally_segment.npz"
    whole = tally.read_bytes()
    tally.write_bytes(whole[: len(whole) // 2])
    assert experiment.run(config, workdir).rows == summary.rows
    assert "evaluating 16 test slices" in capsys.readouterr().out
    assert len(tally.read_bytes()) == len(whole)


def test_another_tolerance_is_evaluated_anew(finished, capsys):
    workdir, config, summary = finished
    wider = config.copy_and_resolve_references()
    wider.evaluation.tolerance_mm = 100.0
    again = experiment.run(wider, workdir, "evaluate")

    def nsd(summary):
        return find_row(summary.rows, over="all slices", of="WT", metric="nsd").mean

    assert nsd(again) > nsd(summary)
    assert nsd(experiment.run(config, workdir, "evaluate")) == nsd(summary)


def test_an_evaluation_that_was_stopped_halfway_is_made_again(finished):
    workdir, config, summary = finished
    wider = config.copy_and_resolve_references()
    wider.evaluation.tolerance_mm = 100.0

    table = workdir / "fold_0" / "evaluation_segment.csv"
    table.unlink()
    table.mkdir()  # which the new table cannot replace
    with pytest.raises(OSError):
        experiment.run(wider, workdir, "evaluate")
    table.rmdir()
    path = workdir / "fold_0" / "tally_segment.npz"
    assert SegmentationTally.load(path)[0].tolerance_mm == 100
    assert experiment.run(config, workdir).rows == summary.rows
    assert SegmentationTally.load(path)[0].tolerance_mm == config.evaluation.tolerance_mm
