"""A model is found by a path or by the name of one that comes with the package."""

import shutil

import pytest

from brats_jax.errors import BratsError
from brats_jax.inference import model_paths, open_by_name, weights_writer
from brats_jax.inference.trained_run import open_run
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def fold(example_runs):
    return example_runs["volume"] / "run" / "fold_0"


@pytest.fixture
def ready(fold, tmp_path, monkeypatch):
    """A package with the ready model 'small'."""
    monkeypatch.setattr(model_paths, "READY", tmp_path / "weights")
    trained = open_run(fold, "segment", data_mesh())
    weights_writer.write(trained, tmp_path / "weights" / "small", weights_writer.WeightsOptions())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_ready_model_is_found_by_its_name(ready):
    assert open_by_name.open_model("small", "segment", data_mesh()).name == "small"


def test_a_run_at_the_path_comes_before_a_name(ready, fold):
    (ready / "small").mkdir()  # a folder that is no model does not hide it
    assert open_by_name.open_model("small", "segment", data_mesh()).weights is not None
    shutil.copytree(fold.parent, ready / "small", dirs_exist_ok=True)
    assert open_by_name.open_model("small", "segment", data_mesh()).weights is None


def test_a_path_without_a_model_is_refused(ready):
    with pytest.raises(BratsError, match=r"'runs/x': no run.* ready model: small$"):
        open_by_name.open_model("runs/x", "segment", data_mesh())
