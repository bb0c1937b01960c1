"""A run of which files are gone or emptied goes on, or one line says what to copy or remove."""

import shutil

import prediction_examples as examples
import pytest

from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.experiments import experiment
from brats_jax.inference.trained_run import open_run
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture
def run(example_runs, tmp_path):
    """A run of two folds with `best` and complete.json of each stage, and nothing of `last`."""
    shutil.copytree(example_runs["slice"] / "run", tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture
def config(example_runs):
    config = examples.tiny_config(Store.open(example_runs["slice"] / "store"))
    config.ssl, config.folds = True, (0,)
    return config


def refusal(config, run):
    with pytest.raises(BratsError) as caught:
        experiment.run(config, run.path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_config_json_a_run_is_not_continued_with_other_settings(config, run):
    run.config_json.unlink()
    before = sorted(run.path.rglob("*"))
    assert "config.json is missing, but there are trained folds" in refusal(config, run)
    assert sorted(run.path.rglob("*")) == before


@pytest.mark.parametrize("content", [None, "", "{"])
def test_a_stage_without_checkpoints_is_not_trained_again_unasked(config, run, content):
    stage = run.fold(0).stage("pretrain")
    shutil.rmtree(stage.best)
    if content is not None:
        stage.complete_json.write_text(content)
    text = refusal(config, run)
    state = "is there" if content is None else "cannot be read"
    assert f"{stage.complete_json} {state}, but {stage.last} holds no checkpoint" in text
    assert f"copy it back, or remove {stage.complete_json} and give the same command" in text


def test_the_network_of_a_stage_without_best_names_what_to_remove(run):
    stage = run.fold(0).stage("segment")
    shutil.rmtree(stage.best)
    with pytest.raises(BratsError, match=f"copy it back, or remove {stage.complete_json} and give"):
        open_run(run.path, "segment", data_mesh())


def test_a_fold_whose_complete_json_is_empty_is_not_part_of_the_ensemble(run):
    run.fold(0).stage("segment").complete_json.write_text("")
    trained = open_run(run.path, "segment", data_mesh())
    assert [member.fold for member in trained.members] == [1]
    assert "fold 0 is not known to be trained to the end" in trained.notes[0]
    assert "complete.json is not valid JSON" in trained.notes[0] and "left out" in trained.notes[0]
