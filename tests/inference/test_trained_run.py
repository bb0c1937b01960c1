"""Which folds of a run are opened, and which checkpoints are refused."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import prediction_examples as examples
import pytest

from brats_jax import inference
from brats_jax.data.splits import Splits
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.runs.documents import PretrainingSource, StageResult
from brats_jax.runs.folder import StageFolder
from brats_jax.runtime.document import read_document
from brats_jax.tasks import Segmentation

pytestmark = pytest.mark.usefixtures("shallow")


def copy_run(example_runs, folder):
    """A copy of the example run that a test may change."""
    shutil.copytree(example_runs["volume"] / "run", folder / "run")
    return folder / "run"


def test_incomplete_folds_are_left_out_with_a_note(example_runs, tmp_path):
    run = copy_run(example_runs, tmp_path)
    (run / "fold_1" / "segment" / "complete.json").unlink()
    model = inference.load(run)
    assert [m.fold for m in model.trained.members] == [0]
    assert "fold 1 is not trained to the end" in model.trained.notes[0]
    assert "its best so far" in inference.load(run / "fold_1").trained.notes[0]
    (run / "fold_0" / "segment" / "complete.json").unlink()
    with pytest.raises(BratsError, match=r"one, or give .*/run/fold_0 to use its best so far"):
        inference.load(run)
    for fold in ("fold_0", "fold_1"):  # stopped before the first validation
        shutil.rmtree(run / fold / "segment" / "best")
    with pytest.raises(BratsError, match=r"no fold whose segment stage .*; train one$"):
        inference.load(run)
    with pytest.raises(BratsError, match="no run there"):
        inference.load(tmp_path)
    with pytest.raises(BratsError, match="no checkpoint there"):
        inference.load(run / "fold_7")


def test_all_who_train_count_as_seen(example_runs, tmp_path):
    run = copy_run(example_runs, tmp_path)
    splits = read_document(run / "splits.json", Splits)
    own, test = next(names[0] for names in splits.folds if names), splits.test[0]
    folds = tuple(tuple(name for name in names if name != own) for names in splits.folds)
    dataclasses.replace(splits, folds=folds, training_only=(own,), unlabelled=("someone",)).write(
        run / "splits.json"
    )
    trained = inference.load(run / "fold_0").trained
    assert trained.has_seen(own) and not trained.has_seen(test)
    # By the pretraining that the segmentation began with.
    assert trained.has_seen("someone") == trained.document.settings.ssl


def test_in_a_cross_validation_a_fold_has_not_seen_its_own_patients(example_runs, tmp_path):
    run = copy_run(example_runs, tmp_path)
    splits = read_document(run / "splits.json", Splits)
    names = splits.patients
    folds = (names[:1], names[1:])
    dataclasses.replace(splits, test_fraction=0.0, test=(), folds=folds).write(run / "splits.json")
    one, both = (inference.load(path).trained for path in (run / "fold_0", run))
    assert [one.has_seen(name) for name in names] == [False, True, True]
    assert all(both.has_seen(name) for name in names)


def test_a_changed_weight_changes_the_hash(example_runs):
    hashes = {
        inference.load(example_runs["volume"] / "run" / f"fold_{k}").trained.hash for k in (0, 1, 0)
    }
    assert len(hashes) == 2


def test_a_pretraining_in_another_run_is_found(example_runs, tmp_path):
    run = copy_run(example_runs, tmp_path)
    shutil.rmtree(run / "fold_0" / "pretrain")
    result = StageResult(metric="mse", best=0.5, best_step=7, steps=7, seconds=1.0)
    source = PretrainingSource(str(example_runs["volume"] / "run"), result)
    source.write(run / "fold_0" / "pretraining.json")
    found, own = (
        inference.load(r / "fold_0", task="reconstruct").trained.hash
        for r in (run, example_runs["volume"] / "run")
    )
    assert found == own


def test_a_checkpoint_without_its_normalisation_is_refused(example_runs, tmp_path):
    """The network's input cannot be made without it."""
    store = SimpleNamespace(
        manifest=SimpleNamespace(normalisation=None),
        slice_shape=(40, 32),
        fingerprint="",
        path="none",
    )
    run = copy_run(example_runs, tmp_path)
    shutil.rmtree(run / "fold_0" / "segment")
    task = Segmentation(inputs=examples.SEGMENT_INPUTS, width=4)
    examples.save(StageFolder(run / "fold_0" / "segment"), task, seed=0, store=store)
    with pytest.raises(BratsError, match="do not say how their data were normalised"):
        inference.load(run)


def test_the_checkpoint_describes_its_network(example_runs, tmp_path):
    """Inputs and width come from the checkpoint, whatever the settings say."""
    run = copy_run(example_runs, tmp_path)
    document = json.loads((run / "config.json").read_text())
    del document["sha256"]
    document["config"]["model"]["width"] = 64
    document["config"]["segment"]["inputs"] = ["t1"]
    (run / "config.json").write_text(json.dumps(document))
    task = inference.load(run).trained.task
    assert task.inputs == examples.SEGMENT_INPUTS and task.width == 4


def test_a_checkpoint_of_the_other_stage_is_refused(example_runs, tmp_path):
    run = copy_run(example_runs, tmp_path)
    shutil.rmtree(run / "fold_0" / "segment")
    shutil.copytree(run / "fold_0" / "pretrain", run / "fold_0" / "segment")
    with pytest.raises(BratsError, match="segment holds a pretrain checkpoint"):
        inference.load(run / "fold_0")


def test_folds_with_different_networks_are_refused(example_runs, tmp_path):
    run = copy_run(example_runs, tmp_path)
    shutil.rmtree(run / "fold_1" / "segment")
    store = Store.open(example_runs["volume"] / "store")
    examples.save(
        StageFolder(run / "fold_1" / "segment"), Segmentation(width=4), seed=0, store=store
    )
    with pytest.raises(BratsError, match="checkpoint of another model: inputs"):
        inference.load(run)


def test_settings_that_cannot_be_read_are_refused(example_runs, tmp_path):
    run = copy_run(example_runs, tmp_path)
    text = (run / "config.json").read_text()
    for broken in (text[:-100], "[]", '{"schema": "brats_jax.config", "version": 99}'):
        (run / "config.json").write_text(broken)
        with pytest.raises(BratsError, match=r"config\.json") as refused:
            inference.load(run)
        assert "\n" not in str(refused.value)
