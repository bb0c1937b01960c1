"""The evaluation of a fold: its test set, and when it is made again."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.selection import select_slices
from brats_jax.data.splits import Splits, fold_split
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation import yardsticks
from brats_jax.evaluation.fold import FoldEvaluation
from brats_jax.evaluation.rows import find_row
from brats_jax.evaluation.tallies import SegmentationTally
from brats_jax.experiments import experiment
from brats_jax.experiments.config import parse, task
from brats_jax.runs.documents import Evaluation
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.devices import data_mesh
from brats_jax.runtime.document import read_document

pytestmark = pytest.mark.usefixtures("shallow")


def test_an_evaluation_states_its_test_set(finished, small_store):
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


def test_yardsticks_stand_beside_the_pretraining(finished, small_store):
    """Fitted to the training slices: every patient's number is that of its images."""
    workdir, config, summary = finished
    evaluation = read_document(workdir / "fold_0" / "evaluation.json", Evaluation)
    split = fold_split(read_document(workdir / "splits.json", Splits), small_store, 0)
    slices = select_slices(small_store, split.train, config.pretrain.slices)
    fitted = yardsticks.fit(small_store, slices, evaluation.inputs, (evaluation.target,))
    target = MODALITIES.index(evaluation.target)
    for one in fitted:
        (coefficients,) = evaluation.yardsticks[one.name].values()
        assert tuple(coefficients) == one.terms
        np.testing.assert_allclose(list(coefficients.values()), one.coefficients[:, 0])
        found = find_row(
            evaluation.rows, stage=one.name, over="all slices", of="slice", metric="mse"
        )
        images = small_store.read(split.test)[0].astype(np.float64)
        error = one.predict(images)[..., 0] - images[..., target]
        assert found.mean == pytest.approx(np.square(error).mean(), rel=1e-4)
        assert find_row(summary.rows, stage=one.name, of="brain", metric="ssim") is not None
    with (workdir / "fold_0" / "evaluation_pretrain.csv").open() as file:
        assert {"regression brain mse", "mean slice psnr"} <= set(next(csv.reader(file)))


def test_evaluating_again_gives_the_same_numbers(finished):
    workdir, config, summary = finished
    with config.unlocked():
        again = experiment.run(config, workdir, "evaluate")
    assert again.rows == summary.rows


def test_an_evaluation_of_another_checkpoint_is_made_again(finished, capsys):
    workdir, config, summary = finished
    path = workdir / "fold_0" / "evaluation.json"
    document = json.loads(path.read_text())
    document["checkpoints"]["segment"]["step"] = 1
    del document["sha256"]
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


def test_another_tolerance_or_an_average_over_flips_is_evaluated_again(finished, capsys):
    workdir, config, summary = finished
    other = config.copy_and_resolve_references()
    other.evaluation.tolerance_mm, other.evaluation.tta = 100.0, True
    again = experiment.run(other, workdir, "evaluate")
    assert "mean over fold 0 of 3; predictions averaged over flips" in capsys.readouterr().out
    assert read_document(workdir / "fold_0" / "evaluation.json", Evaluation).tta and again.tta

    def value(summary, stage, of, metric):
        return find_row(summary.rows, stage=stage, over="all slices", of=of, metric=metric).mean

    nsd, mse, dice = (
        ("segment", "WT", "nsd"),
        ("pretrain", "brain", "mse"),
        ("segment", "ED", "dice"),
    )
    assert value(again, *nsd) > value(summary, *nsd)
    assert value(again, *mse) != value(summary, *mse)
    assert value(again, *dice) != value(summary, *dice)
    back = experiment.run(config, workdir)  # the evaluation is not that of the settings
    assert back.rows == summary.rows and not back.tta


def test_an_evaluation_that_was_stopped_halfway_is_made_again(finished):
    workdir, config, summary = finished
    wider = config.copy_and_resolve_references()
    wider.evaluation.tolerance_mm = 100.0

    table = workdir / "fold_0" / "evaluation_segment.csv"
    table.unlink()
    table.mkdir()  # the new table cannot replace a folder
    with pytest.raises(OSError):
        experiment.run(wider, workdir, "evaluate")
    table.rmdir()
    path = workdir / "fold_0" / "tally_segment.npz"
    assert SegmentationTally.load(path)[0].tolerance_mm == 100
    assert experiment.run(config, workdir).rows == summary.rows
    assert SegmentationTally.load(path)[0].tolerance_mm == config.evaluation.tolerance_mm


def test_a_stage_without_a_trained_epoch_is_refused_before_anything_is_evaluated(
    finished, tmp_path, capsys
):
    workdir, config, _ = finished
    run = RunFolder(shutil.copytree(workdir, tmp_path / "run"))
    run.fold(0).evaluation_json.unlink()
    stage = run.fold(0).stage("segment")
    stage.complete_json.unlink()
    shutil.rmtree(stage.best)
    capsys.readouterr()
    with pytest.raises(BratsError, match="fold 0 segment: no epoch of it is trained"):
        experiment.run(config, run.path, "evaluate")
    assert "evaluating" not in capsys.readouterr().out


def test_a_test_patient_without_a_modality_is_left_out_of_the_stage_that_needs_it(
    finished, small_store, tmp_path, capsys
):
    workdir, config, _ = finished
    run = RunFolder(shutil.copytree(workdir, tmp_path / "run"))
    settings = parse(config)
    split = fold_split(read_document(run.splits_json, Splits), small_store, 0)
    split = dataclasses.replace(split, test=np.sort([*split.test, *split.validation]))
    store = Store.open(small_store.path)
    lame = store.patient_of[split.validation[0]]
    store.present[lame, MODALITIES.index("t2")] = False
    tasks = {name: task(settings, name) for name in ("pretrain", "segment")}
    mesh = data_mesh()
    trained_on = dict.fromkeys(tasks, split.train)
    fold = FoldEvaluation(
        settings, tasks, store, split, "patient", "test", run.fold(0), mesh, trained_on
    )
    fold.run(again=True)
    found = read_document(run.fold(0).evaluation_json, Evaluation)
    assert found.left_out == {"segment": 1} and found.patients == 3
    line = f"segment: 1 of 3 test patients left out, without T2: {store.patients[lame]}"
    assert line in capsys.readouterr().out
    for stage, patients in (("pretrain", 3), ("segment", 2)):
        with (run.fold(0).path / f"evaluation_{stage}.csv").open() as file:
            assert len({row["patient"] for row in csv.DictReader(file)}) == patients


@pytest.mark.parametrize("slices", ["all", "tumour"])
def test_all_slices_are_advised_only_where_they_are_not_taken(
    finished, small_store, tmp_path, slices
):
    workdir, config, _ = finished
    run = RunFolder(shutil.copytree(workdir, tmp_path / "run"))
    config = config.copy_and_resolve_references()
    config.evaluation.slices = slices
    settings = parse(config)
    tasks = {name: task(settings, name) for name in ("pretrain", "segment")}
    split = fold_split(read_document(run.splits_json, Splits), small_store, 0)
    lame = Store.open(small_store.path)
    lame.present[:, MODALITIES.index("t2")] = False
    empty = dataclasses.replace(split, test=split.test[:0])
    for store, chosen, message in (
        (small_store, empty, "fold 0: no test slice"),
        (lame, split, "fold 0 segment: no test slice of a patient with t1, t1gd"),
    ):
        fold = FoldEvaluation(
            settings, tasks, store, chosen, "patient", "test", run.fold(0), data_mesh(),
            dict.fromkeys(tasks, split.train),
        )  # fmt: skip
        with pytest.raises(BratsError, match=message) as error:
            fold.run(again=True)
        advised = "--config.evaluation.slices=all" in str(error.value)
        assert advised == (slices != "all") and "--config.data.split_seed" in str(error.value)
