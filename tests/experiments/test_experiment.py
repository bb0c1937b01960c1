"""Both stages from beginning to end, and the files of a run."""

import json

import jax
import numpy as np
import pytest
from experiment_examples import audit_of, config_of

from brats_jax import inference
from brats_jax.errors import BratsError
from brats_jax.evaluation.slices import predict_slices
from brats_jax.experiments import experiment
from brats_jax.experiments.config import parse, segmentation
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs.folder import RunFolder
from brats_jax.runs.metrics_jsonl import read_metrics
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


def files_below(folder):
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_a_run_writes_every_file_of_its_layout(finished):
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
    assert summary.folds == (0,) and summary.of_folds == 3
    assert not [p for p in workdir.rglob("*") if p.name.startswith(".")]


PAIRS = ("train_and_validation", "train_and_test", "validation_and_test")


def test_audit_and_checkpoints_of_a_split_by_patient_record_no_leak(finished):
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
    assert "cpu, float32 activations, store" in printed  # 'auto', spelt out
    for stage in ("pretrain", "segment", "evaluation"):
        assert f"fold 0 {stage}: complete, skipped" in printed
    changed = {n for n, t in files_below(workdir).items() if before.get(n) != t}
    assert changed <= {
        "lock", "fold_0/lock", "fold_0"
    }  # fmt: skip


def test_the_printed_table_names_conventions_and_units(finished, capsys):
    workdir, config, _ = finished
    experiment.run(config, workdir)
    printed = capsys.readouterr().out
    for word in ("by patient, in 3D", "HD95 mm brats2020", "Dice lesion-wise", "Dice paper",
                 "Dice present_only", "Dice both_empty_1", "ASD mm", "PSNR dB", "1 patient,",
                 "split by patient", "mean foreground"):  # fmt: skip
        assert word in printed, word


def test_a_finished_run_predicts_like_its_best_checkpoint(finished, small_store):
    workdir, config, _ = finished
    for task in ("segment", "reconstruct"):
        model = inference.load(workdir, task=task)
        assert [member.fold for member in model.trained.members] == [0]
        assert model.trained.in_plane == small_store.slice_shape
        assert model.trained.document.config == json.loads(config.to_json_best_effort())
    splits = json.loads((workdir / "splits.json").read_text())
    assert model.trained.seen == set(small_store.subjects) - set(splits["test"])
    images = small_store.read(np.array(small_store.slices_of(splits["test"][0])))[0]
    labels = inference.load(workdir / "fold_0").ensemble.segment(images).labels
    restored = RestoredNetwork(
        segmentation(parse(config)), RunFolder(workdir).fold(0).stage("segment"), data_mesh()
    )
    rows = np.array(small_store.slices_of(splits["test"][0]))
    np.testing.assert_array_equal(labels, predict_slices(restored, small_store, rows))


def test_a_split_by_slice_is_named_in_every_table(small_store, compiled_programs, tmp_path, capsys):
    config = config_of(
        small_store, compiled_programs, ssl=False, data__split_by="slice", loss="dice_focal"
    )
    summary = experiment.run(config, tmp_path / "run")
    printed = capsys.readouterr().out
    assert "SPLIT BY SLICE" in printed and "patients on both sides: too good" in printed
    assert summary.split_by == "slice"
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


def test_a_run_keeps_its_programs_in_the_folder_of_its_settings(small_store, tmp_path):
    kept = jax.config.jax_compilation_cache_dir
    try:
        with pytest.raises(BratsError, match="no run there to evaluate"):  # later than the choice
            experiment.run(config_of(small_store, tmp_path / "programs"), tmp_path, "evaluate")
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "programs")
    finally:
        jax.config.update("jax_compilation_cache_dir", kept)
