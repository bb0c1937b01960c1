"""A model is found by a path or by the name of one that comes with the package."""

import shutil

import pytest

from brats_jax.errors import BratsError
from brats_jax.inference import open_by_name, weights_writer
from brats_jax.inference.trained_run import open_run
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def fold(example_runs):
    return example_runs["volume"] / "run" / "fold_0"


@pytest.fixture
def ready(fold, tmp_path, monkeypatch):
    """A package with the ready model 'small'."""
    monkeypatch.setattr(open_by_name, "READY", tmp_path / "weights")
    trained = open_run(fold, "segment", data_mesh())
    weights_writer.write(trained, tmp_path / "weights" / "small", weights_writer.WeightsOptions())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_ready_model_is_found_by_its_name(ready):
    assert open_by_name.ready_models() == ["small"]
    assert open_by_name.open_model("small", "segment", data_mesh()).name == "small"


def test_a_run_at_the_path_comes_before_a_name(ready, fold):
    (ready / "small").mkdir()  # a folder that is no model does not hide it
    assert open_by_name.open_model("small", "segment", data_mesh()).weights is not None
    shutil.copytree(fold.parent, ready / "small", dirs_exist_ok=True)
    assert open_by_name.open_model("small", "segment", data_mesh()).weights is None


def test_another_name_is_one_line_that_lists_the_ready_models(ready, monkeypatch):
    with pytest.raises(BratsError, match=r"'runs/x': no run.* ready model: small$"):
        open_by_name.open_model("runs/x", "segment", data_mesh())
    for name in ("smal", "Small", "smalll"):
        with pytest.raises(BratsError, match=f"'{name}': no run .*did you mean 'small'"):
            open_by_name.open_model(name, "segment", data_mesh())
    monkeypatch.setattr(open_by_name, "READY", ready / "none")
    with pytest.raises(BratsError, match="this installation has no ready models"):
        open_by_name.open_model("small", "segment", data_mesh())
    for name in ("../weights/small", "x/../../y"):  # a name is no path
        with pytest.raises(BratsError, match="no run there"):
            open_by_name.open_model(name, "segment", data_mesh())


def test_the_line_says_what_is_at_the_path_and_which_runs_are_below(ready, fold):
    (ready / "scans").mkdir()
    (ready / "notes.txt").touch()
    for name, what in (
        ("big", "there is no such folder"),
        ("scans", "the folder holds no run"),
        ("notes.txt", "it is a file"),
    ):
        with pytest.raises(BratsError, match=rf"'{name}': no run there \({what}\).*: small$"):
            open_by_name.open_model(name, "segment", data_mesh())
    for name in ("a", "b"):
        shutil.copytree(fold.parent, ready / "runs" / name)
    with pytest.raises(BratsError, match=r"'runs': no run there, but in it: give runs/a or runs/b"):
        open_by_name.open_model("runs", "segment", data_mesh())


def test_several_runs_are_for_prediction_alone(ready, fold):
    with pytest.raises(BratsError, match=r"only predict and brats_jax\.load average several"):
        open_by_name.open_model(f"{fold},small", "segment", data_mesh())


def test_weights_whose_description_is_gone_are_named(ready):
    folder = ready / "weights" / "small"
    (folder / "config.json").unlink()
    with pytest.raises(BratsError, match=r"config\.json is missing, but there are weights beside"):
        open_by_name.open_model(folder, "segment", data_mesh())


def test_runs_are_not_looked_for_in_exported_weights(ready):
    from brats_jax.runs.folder import RunFolder, find_runs

    assert not RunFolder(ready / "weights" / "small").exists
    assert list(find_runs(ready)) == []
