"""A first stage alone, and experiments that take their encoder from another one's."""

import json
import shutil

import jax
import numpy as np
import pytest
from experiment_examples import config_of

from brats_jax.errors import BratsError
from brats_jax.experiments import experiment
from brats_jax.experiments.config import parse, segmentation
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def pretrained(small_store, compiled_programs, shallow, tmp_path_factory):
    """(run folder with the first stage alone, its summary)."""
    workdir = tmp_path_factory.mktemp("pretrained") / "run"
    config = config_of(small_store, compiled_programs)
    return workdir, experiment.run(config, workdir, "pretrain")


def segment_weights(config, workdir):
    task = segmentation(parse(config))
    restored = RestoredNetwork(task, RunFolder(workdir).fold(0).stage("segment"), data_mesh())
    return restored.params, restored.stats


def test_the_first_stage_alone_has_the_scores_of_both_together(pretrained, finished):
    workdir, summary = pretrained
    assert not (workdir / "fold_0" / "segment").exists()
    stages = {row.stage for row in summary.rows}
    assert stages == {"pretrain", "regression", "mean"}
    together = [row for row in finished[2].rows if row.stage in stages]
    assert list(summary.rows) == together


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
    assert list(summary.rows) == [r for r in finished[2].rows if r.stage == "segment"]
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
    del complete["sha256"]
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
    del document["sha256"]
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
