import csv
import json
import runpy
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from brats_jax import (
    checkpoints,
    evaluate,
    experiment,
    fold_evaluation,
    inference,
    lock,
    results,
    settings,
)
from brats_jax.data.modalities import CLASSES
from brats_jax.devices import data_mesh
from brats_jax.errors import BratsError, Busy
from brats_jax.models import resnet
from brats_jax.progress import read_metrics
from brats_jax.tallies import SegmentationTally

TINY = Path(__file__).with_name("tiny_config.py")


def config_of(store, cache, **changes):
    blocks = resnet.BLOCKS
    config = runpy.run_path(str(TINY))["get_config"]()
    resnet.BLOCKS = blocks  # `shallow` sets it, and takes it back
    config.data.store = str(store.path)
    config.compilation_cache = str(cache)
    for stage in ("pretrain", "segment"):
        config[stage].epochs = 2
        config[stage].steps_per_epoch = 3
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


@pytest.fixture(scope="module", autouse=True)
def shallow():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "BLOCKS", (1, 1, 1, 1))
        yield


@pytest.fixture(scope="module")
def finished(small_store, compiled_programs, tmp_path_factory):
    """(run folder, configuration, summary) of a run of both stages."""
    workdir = tmp_path_factory.mktemp("run")
    config = config_of(small_store, compiled_programs)
    return workdir, config, experiment.run(config, workdir)


def files_below(folder):
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_a_run_leaves_what_it_promises(finished):
    workdir, _, summary = finished
    fold = workdir / "fold_0"
    for name in (
        "config.json", "splits.json", "summary.json", "summary.csv",
        "fold_0/audit.json", "fold_0/evaluation.json",
        "fold_0/evaluation_pretrain.csv", "fold_0/evaluation_segment.csv",
        "fold_0/evaluation_segment_patients.csv",
        "fold_0/tally_pretrain.npz", "fold_0/tally_segment.npz",
        "fold_0/panels/reconstruction.png", "fold_0/panels/segmentation.png",
    ):  # fmt: skip
        assert (workdir / name).stat().st_size > 0, name
    for stage in ("pretrain", "segment"):
        assert len(read_metrics(fold / stage / "metrics.jsonl")) >= 4
        for which in ("best", "last"):
            assert any(p.name.isdigit() for p in (fold / stage / which).iterdir())
    assert summary["folds"] == [0] and summary["of_folds"] == 3
    assert not [p for p in workdir.rglob("*") if p.name.startswith(".")]


def test_numbers_in_the_tables_come_from_the_slices(finished):
    """The table of slices, averaged here by hand, gives the printed numbers."""
    workdir, _, summary = finished
    with (workdir / "fold_0" / "evaluation_segment.csv").open() as file:
        rows = list(csv.DictReader(file))
    printed = {
        (r["of"], r["metric"], r["convention"]): r
        for r in summary["rows"]
        if r["over"] == "all slices"
    }
    for name in CLASSES:
        tp, fp, fn = (np.array([int(r[f"{name} {x}"]) for r in rows]) for x in ("tp", "fp", "fn"))
        present = tp + fp + fn > 0
        dice = 2 * tp / np.maximum(2 * tp + fp + fn, 1)
        assert printed[name, "dice", "paper"]["mean"] == pytest.approx(dice.mean())
        row = printed[name, "dice", "present_only"]
        assert row["count"] == present.sum()
        if present.any():
            assert row["mean"] == pytest.approx(dice[present].mean())
        both = np.where(present, dice, 1).mean()
        assert printed[name, "dice", "both_empty_1"]["mean"] == pytest.approx(both)
        distances = [float(r[f"{name} asd_mm"]) for r in rows if r[f"{name} asd_mm"]]
        assert printed[name, "asd_mm", "both_present"]["count"] == len(distances)
    with (workdir / "fold_0" / "evaluation_pretrain.csv").open() as file:
        ssim = [float(r["slice ssim"]) for r in csv.DictReader(file) if r["slice ssim"]]
    assert printed["slice", "ssim", "target range"]["mean"] == pytest.approx(
        np.mean(ssim), abs=1e-5
    )


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
    found = results.find(
        summary["rows"], over="volumes", of="WT", metric="dice", convention="brats2020"
    )
    assert found["mean"] == pytest.approx(expected) and found["count"] == 1


def test_evaluation_says_what_it_is_over(finished, small_store):
    workdir, _, _ = finished
    document = json.loads((workdir / "fold_0" / "evaluation.json").read_text())
    assert document["set"] == "test" and document["split_by"] == "patient"
    assert document["patients"] == 1 and document["version"] == fold_evaluation.EVALUATION_VERSION
    background = results.find(
        document["rows"], stage="segment", over="all slices", of="background", convention="paper"
    )
    assert background["count"] == 16
    splits = json.loads((workdir / "splits.json").read_text())
    with (workdir / "fold_0" / "evaluation_segment.csv").open() as file:
        assert {r["patient"] for r in csv.DictReader(file)} == set(splits["test"])


PAIRS = ("train_and_validation", "train_and_test", "validation_and_test")


def audit_of(workdir, stages):
    """What is written of leaks: the audit of fold 0, after its checkpoints were seen to agree."""
    fold = workdir / "fold_0"
    audit = json.loads((fold / "audit.json").read_text())
    for stage in stages:
        for which in ("best", "last"):
            record = checkpoints.read_meta(fold / stage / which)["record"]
            assert record["leaks"] is audit["leaks"]
    return audit


def test_by_patient_the_audit_and_the_checkpoints_say_that_nothing_leaks(finished):
    workdir, _, _ = finished
    audit = audit_of(workdir, ("pretrain", "segment"))
    splits = json.loads((workdir / "splits.json").read_text())
    validation = len(splits["folds"][0])
    patients = {"train": 7 - validation, "validation": validation, "test": 1}
    assert audit["patients"] == patients
    assert audit["slices"] == {name: 16 * count for name, count in patients.items()}
    for pair in PAIRS:
        assert audit[f"patients_in_{pair}"] == audit[f"slices_in_{pair}"] == 0
    for name in ("validation", "test"):
        assert audit[f"{name}_slices_beside_a_training_slice"] == 0
    assert audit["leaks"] is False


def test_the_same_command_again_does_nothing_but_print(finished, capsys):
    workdir, config, summary = finished
    before = files_below(workdir)
    capsys.readouterr()
    assert experiment.run(config, workdir) == summary
    printed = capsys.readouterr().out
    for stage in ("pretrain", "segment", "evaluation"):
        assert f"fold 0 {stage}: complete, skipped" in printed
    changed = {n for n, t in files_below(workdir).items() if before.get(n) != t}
    assert changed <= {
        "summary.json", "summary.csv", "fold_0/audit.json", "fold_0/lock", "fold_0"
    }  # fmt: skip


def test_evaluate_restores_and_gives_the_same_numbers(finished):
    workdir, config, summary = finished
    with config.unlocked():
        again = experiment.run(config, workdir, "evaluate")
    assert again["rows"] == summary["rows"]


def test_table_names_conventions_and_units(finished, capsys):
    workdir, config, _ = finished
    experiment.run(config, workdir)
    printed = capsys.readouterr().out
    for word in ("by patient, in 3D", "HD95 mm brats2020", "Dice lesion-wise", "Dice paper",
                 "Dice present_only", "Dice both_empty_1", "ASD mm", "PSNR dB", "1 patient,",
                 "split by patient", "mean foreground"):  # fmt: skip
        assert word in printed, word


def test_a_run_can_predict(finished, small_store):
    """What a checkpoint records is what prediction asks it for."""
    workdir, config, _ = finished
    for task in ("segment", "reconstruct"):
        model = inference.load(workdir, task=task)
        assert [member.fold for member in model.trained.members] == [0]
        assert model.trained.in_plane == small_store.slice_shape
        assert model.trained.config == json.loads(config.to_json_best_effort())
    splits = json.loads((workdir / "splits.json").read_text())
    assert model.trained.seen == set(small_store.subjects) - set(splits["test"])
    images = small_store.read(np.array(small_store.slices_of(splits["test"][0])))[0]
    labels = inference.load(workdir / "fold_0").ensemble.segment(images).labels
    restored = evaluate.Restored(
        settings.segmentation(config), workdir / "fold_0" / "segment", data_mesh()
    )
    rows = np.array(small_store.slices_of(splits["test"][0]))
    np.testing.assert_array_equal(labels, evaluate.predict_slices(restored, small_store, rows))


def test_encoder_of_the_second_stage_is_the_first_ones(finished, small_store, monkeypatch):
    workdir, config, _ = finished
    started = {}

    class Watching(experiment.Stage):
        def run(self):
            started["params"] = self.fresh_state()[1].params
            raise KeyboardInterrupt

    (workdir / "fold_0" / "segment" / "complete.json").rename(workdir / "kept.json")
    monkeypatch.setattr(experiment, "Stage", Watching)
    try:
        with pytest.raises(KeyboardInterrupt):
            experiment.run(config, workdir)
    finally:
        (workdir / "kept.json").rename(workdir / "fold_0" / "segment" / "complete.json")
    source = evaluate.Restored(
        settings.reconstruction(config), workdir / "fold_0" / "pretrain", data_mesh()
    ).params["encoder"]
    encoder = started["params"]["encoder"]
    old, new = (np.asarray(tree["conv1"]["kernel"]) for tree in (source, encoder))
    np.testing.assert_array_equal(new[:, :, :2], old)  # T1, T1Gd
    assert new[:, :, 2:].std() > 0.01  # T2, FLAIR: random
    for part in ("layer1", "layer4", "bn1"):
        jax.tree.map(np.testing.assert_array_equal, encoder[part], source[part])


def test_other_settings_need_another_folder(finished, small_store, compiled_programs):
    workdir, _, _ = finished
    changed = config_of(small_store, compiled_programs, seed=5, loss="focal")
    with pytest.raises(BratsError, match="loss: dice_ce -> focal; seed: 0 -> 5"):
        experiment.run(changed, workdir)


def test_another_store_needs_another_folder(finished, compiled_programs, tmp_path):
    from brats_jax.data.preparation import prepare
    from brats_jax.data.store import Store

    workdir, _, _ = finished
    prepare("phantom", tmp_path / "s", patients=6, seed=1, shape=(16, 32, 32), workers=1)
    other = config_of(Store.open(tmp_path / "s"), compiled_programs)
    with pytest.raises(BratsError, match="was started on another store"):
        experiment.run(other, workdir)


def test_split_by_slice_is_said_in_every_table(small_store, compiled_programs, tmp_path, capsys):
    config = config_of(
        small_store, compiled_programs, ssl=False, data__split_by="slice", loss="dice_focal"
    )
    summary = experiment.run(config, tmp_path / "run")
    printed = capsys.readouterr().out
    assert "SPLIT BY SLICE" in printed and "patients on both sides: too good" in printed
    assert summary["split_by"] == "slice"
    assert not (tmp_path / "run" / "fold_0" / "pretrain").exists()
    audit = audit_of(tmp_path / "run", ("segment",))
    splits = json.loads((tmp_path / "run" / "splits.json").read_text())
    names = {
        "train": splits["folds"][1] + splits["folds"][2],
        "validation": splits["folds"][0],
        "test": splits["test"],
    }
    assert audit["slices"] == {name: len(members) for name, members in names.items()}
    people = {key: {name.split("/")[0] for name in members} for key, members in names.items()}
    for pair in PAIRS:
        one, other = pair.split("_and_")
        assert audit[f"patients_in_{pair}"] == len(people[one] & people[other]) > 0
        assert audit[f"slices_in_{pair}"] == 0
    assert audit["test_slices_beside_a_training_slice"] > 0.5
    assert audit["leaks"] is True
    table = (tmp_path / "run" / "summary.csv").read_text().splitlines()
    assert all(line.endswith(",slice,dice_focal,False") for line in table[1:])
    assert "FLAIR from T1, T1Gd" not in printed and "dice_focal, no SSL" in printed


def test_nothing_to_evaluate(small_store, compiled_programs, tmp_path):
    config = config_of(small_store, compiled_programs)
    with pytest.raises(BratsError, match="no run there to evaluate"):
        experiment.run(config, tmp_path / "none", "evaluate")
    assert not (tmp_path / "none").exists()
    with pytest.raises(
        BratsError, match="unknown --mode=predict; valid: train, pretrain, evaluate"
    ):
        experiment.run(config, tmp_path / "none", "predict")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BratsError, match="file is a file; give another --workdir"):
        experiment.run(config, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_no_store(compiled_programs, tmp_path, small_store):
    config = config_of(small_store, compiled_programs, data__store=str(tmp_path / "none"))
    with pytest.raises(BratsError, match="none"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_too_few_patients(small_store, compiled_programs, tmp_path):
    config = config_of(small_store, compiled_programs, data__num_folds=8)
    with pytest.raises(BratsError, match="8 patients are too few for 1 in the test set and 8"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__patch_size": 64}, "patch_size=64 does not fit slices of 48 x 48"),
        ({"train__batch_size": 3}, "train.batch_size=3 cannot be divided among 2 devices"),
        ({"evaluation__batch_size": 3}, "evaluation.batch_size=3 cannot be divided"),
    ],
)
def test_what_cannot_work_leaves_nothing_behind(
    small_store, compiled_programs, tmp_path, changes, message
):
    config = config_of(small_store, compiled_programs, **changes)
    with pytest.raises(BratsError, match=message):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (None, r"w\.safetensors: not a readable safetensors .*; fetch or convert it again"),
        (
            {"conv1.weight": np.zeros((8, 3, 7, 7))},
            r"w\.safetensors: not the weights of .*use torch",
        ),
    ],
)
@pytest.mark.parametrize("ssl", [True, False])
def test_weights_that_do_not_fit_leave_nothing_behind(
    small_store, compiled_programs, tmp_path, weights, message, ssl
):
    path = tmp_path / "w.safetensors"
    if weights is None:
        path.write_bytes(b"half a file")
    else:
        safetensors.numpy.save_file(weights, path)
    config = config_of(small_store, compiled_programs, encoder_init=str(path), ssl=ssl)
    with pytest.raises(BratsError, match=message):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_evaluation_of_another_checkpoint_is_not_taken_for_this_one(finished, capsys):
    workdir, config, summary = finished
    path = workdir / "fold_0" / "evaluation.json"
    document = json.loads(path.read_text())
    document["checkpoints"]["segment"]["step"] = 1
    path.write_text(json.dumps(document))
    assert experiment.run(config, workdir)["rows"] == summary["rows"]
    assert "evaluating 16 test slices" in capsys.readouterr().out
    assert json.loads(path.read_text())["checkpoints"]["segment"]["step"] > 1


def test_an_evaluation_without_its_tally_is_made_again(finished, capsys):
    workdir, config, summary = finished
    tally = workdir / "fold_0" / "tally_segment.npz"
    whole = tally.read_bytes()
    tally.write_bytes(whole[: len(whole) // 2])
    assert experiment.run(config, workdir)["rows"] == summary["rows"]
    assert "evaluating 16 test slices" in capsys.readouterr().out
    assert len(tally.read_bytes()) == len(whole)


def test_another_tolerance_is_evaluated_anew(finished, capsys):
    workdir, config, summary = finished
    wider = config.copy_and_resolve_references()
    wider.evaluation.tolerance_mm = 100.0
    again = experiment.run(wider, workdir, "evaluate")

    def nsd(rows):
        return results.find(rows["rows"], over="all slices", of="WT", metric="nsd")["mean"]

    assert nsd(again) > nsd(summary)
    assert nsd(experiment.run(config, workdir, "evaluate")) == nsd(summary)


def test_an_evaluation_that_was_stopped_halfway_is_made_again(finished, monkeypatch):
    """The tally is of another tolerance by then, and evaluation.json must not vouch for it."""
    workdir, config, summary = finished
    wider = config.copy_and_resolve_references()
    wider.evaluation.tolerance_mm = 100.0

    def stop(directory, stage, tally):
        if stage == "segment":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(results, "write_unit_tables", stop)
        experiment.run(wider, workdir, "evaluate")
    path = workdir / "fold_0" / "tally_segment.npz"
    assert SegmentationTally.load(path)[0].tolerance_mm == 100
    assert experiment.run(config, workdir)["rows"] == summary["rows"]
    assert SegmentationTally.load(path)[0].tolerance_mm == config.evaluation.tolerance_mm


@pytest.fixture(scope="module")
def pretrained(small_store, compiled_programs, tmp_path_factory):
    """(run folder with the first stage alone, its summary)."""
    workdir = tmp_path_factory.mktemp("pretrained") / "run"
    config = config_of(small_store, compiled_programs)
    return workdir, experiment.run(config, workdir, "pretrain")


def segment_weights(config, workdir):
    task = settings.segmentation(config)
    restored = evaluate.Restored(task, workdir / "fold_0" / "segment", data_mesh())
    return restored.params, restored.stats


def test_the_first_stage_alone(pretrained, finished):
    workdir, summary = pretrained
    assert not (workdir / "fold_0" / "segment").exists()
    assert {row["stage"] for row in summary["rows"]} == {"pretrain"}
    together = [row for row in finished[2]["rows"] if row["stage"] == "pretrain"]
    assert summary["rows"] == together


def test_a_shared_pretraining_gives_the_bits_of_an_own_one(
    pretrained, finished, small_store, compiled_programs, tmp_path, capsys
):
    source, workdir = tmp_path / "there", tmp_path / "run"
    shutil.copytree(pretrained[0], source)
    config = config_of(small_store, compiled_programs, pretrain__run=str(source))
    summary = experiment.run(config, workdir)
    assert f"encoder from {source}/fold_0/pretrain" in capsys.readouterr().out
    assert not (workdir / "fold_0" / "pretrain").exists()
    here, there = segment_weights(config, workdir), segment_weights(config, finished[0])
    jax.tree.map(np.testing.assert_array_equal, here, there)
    # The first stage is evaluated where it was trained.
    assert summary["rows"] == [r for r in finished[2]["rows"] if r["stage"] == "segment"]
    document = json.loads((workdir / "fold_0" / "evaluation.json").read_text())
    assert list(document["checkpoints"]) == ["segment"]
    record = json.loads((workdir / "fold_0" / "pretraining.json").read_text())
    complete = json.loads((source / "fold_0" / "pretrain" / "complete.json").read_text())
    assert record["run"] == str(source) and record["result"] == complete

    # Moved, it is still the same; gone, it is no longer needed.
    source.rename(tmp_path / "moved")
    config.pretrain.run = str(tmp_path / "moved")
    assert experiment.run(config, workdir) == summary
    # With the segmentation half done, another pretraining is another experiment.
    (workdir / "fold_0" / "segment" / "complete.json").unlink()
    complete["best"] += 0.1
    path = tmp_path / "moved" / "fold_0" / "pretrain" / "complete.json"
    path.write_text(json.dumps(complete))
    with pytest.raises(BratsError, match="was begun from another pretraining"):
        experiment.run(config, workdir)


@pytest.mark.parametrize(
    ("changes", "spoil", "message"),
    [
        ({}, "fold_0/pretrain/complete.json", "pretraining of fold 0 is not complete there"),
        ({}, "config.json", "no run there"),
        ({"data__split_seed": 1}, "", "pretrained on another split"),
        ({"model__width": 8}, "", "checkpoint of another model: width is 4 there, 8 here"),
        ({"folds": (0, 1)}, "", "pretraining of fold 1 is not complete there"),
    ],
)
def test_a_pretraining_that_does_not_fit_is_refused_before_anything_is_written(
    pretrained, small_store, compiled_programs, tmp_path, changes, spoil, message
):
    source = tmp_path / "there"
    shutil.copytree(pretrained[0], source)
    if spoil:
        (source / spoil).unlink()
    config = config_of(small_store, compiled_programs, pretrain__run=str(source), **changes)
    with pytest.raises(BratsError, match=message):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_pretraining_on_another_store_is_refused(
    pretrained, small_store, compiled_programs, tmp_path
):
    source = tmp_path / "there"
    shutil.copytree(pretrained[0], source)
    document = json.loads((source / "config.json").read_text())
    document["store"]["fingerprint"] = "another"
    (source / "config.json").write_text(json.dumps(document))
    config = config_of(small_store, compiled_programs, pretrain__run=str(source))
    with pytest.raises(BratsError, match="pretrained on another store than"):
        experiment.run(config, tmp_path / "run")


@pytest.mark.parametrize("changes", [{"ssl": False}, {"pretrain__run": "RUN"}])
def test_pretraining_alone_needs_a_pretraining(small_store, compiled_programs, tmp_path, changes):
    config = config_of(small_store, compiled_programs, **changes)
    with pytest.raises(BratsError, match="there would be nothing to train"):
        experiment.run(config, tmp_path / "run", "pretrain")
    assert not (tmp_path / "run").exists()


def test_few_labels_are_few_patients_and_as_many_steps(
    small_store, compiled_programs, tmp_path, capsys, monkeypatch
):
    started = {}

    class Watching(experiment.Stage):
        def run(self):
            started[self.task.name] = self
            raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "Stage", Watching)
    config = config_of(small_store, compiled_programs, ssl=False, data__label_fraction=0.3)
    config.segment.steps_per_epoch = 0
    with pytest.raises(KeyboardInterrupt):
        experiment.run(config, tmp_path / "run")
    splits = json.loads((tmp_path / "run" / "splits.json").read_text())
    people = splits["folds"][1] + splits["folds"][2]
    assert len(people) in (4, 5)  # eight, one of them for the test, in three folds
    training = json.loads((tmp_path / "run" / "fold_0" / "segment" / "training.json").read_text())
    assert (training["patients"], training["of_patients"]) == (2, len(people))
    stage = started["segment"]
    drawn = {int(i) for i in stage.plan.examples(0, 4 * stage.total_steps).slices}
    assert len({small_store.patient_of[i] for i in drawn}) == 2
    assert training["slices"] == len(drawn) < training["of_slices"]
    assert stage.steps_per_epoch == training["steps_per_epoch"] == training["of_slices"] // 4
    assert stage.total_steps == training["steps"] == 2 * training["steps_per_epoch"]
    printed = capsys.readouterr().out
    assert f"fold 0 segment: trains on the labels of 2 of {len(people)} patients" in printed

    config = config_of(small_store, compiled_programs, data__label_fraction=0.3)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(config, tmp_path / "ssl")
    assert f"fold 0 pretrain: trains on {len(people)} patients, " in capsys.readouterr().out
    assert len(started["pretrain"].plan) == 16 * len(people)


def test_a_fold_that_another_process_is_at_is_left_alone(finished):
    workdir, config, _ = finished
    with (
        lock.hold(workdir / "fold_0" / "lock", "it"),
        pytest.raises(Busy, match="fold_0: another process is at it"),
    ):
        experiment.run(config, workdir)
