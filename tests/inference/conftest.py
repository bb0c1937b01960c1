"""Fixtures of the tests of models that come with the package."""

import pytest

from brats_jax.inference import model_paths, weights_writer
from brats_jax.inference.trained_run import open_run
from brats_jax.runtime.devices import data_mesh


@pytest.fixture
def trained_fold(example_runs):
    return example_runs["volume"] / "run" / "fold_0"


@pytest.fixture
def ready(trained_fold, tmp_path, monkeypatch, shallow):
    """A package with the ready model 'small', in the working directory."""
    monkeypatch.setattr(model_paths, "READY", tmp_path / "weights")
    trained = open_run(trained_fold, "segment", data_mesh())
    weights_writer.write(trained, tmp_path / "weights" / "small", weights_writer.WeightsOptions())
    monkeypatch.chdir(tmp_path)
    return tmp_path
