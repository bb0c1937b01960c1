"""A model is found by a path or by the name of one that comes with the package."""

import shutil

import pytest

from brats_jax.errors import BratsError
from brats_jax.inference import open_by_name
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


def test_a_ready_model_is_found_by_its_name(ready):
    assert open_by_name.open_model("small", "segment", data_mesh()).name == "small"


def test_a_run_at_the_path_comes_before_a_name(ready, trained_fold):
    (ready / "small").mkdir()  # a folder that is no model does not hide it
    assert open_by_name.open_model("small", "segment", data_mesh()).weights is not None
    shutil.copytree(trained_fold.parent, ready / "small", dirs_exist_ok=True)
    assert open_by_name.open_model("small", "segment", data_mesh()).weights is None


def test_a_path_without_a_model_is_refused(ready):
    with pytest.raises(BratsError, match=r"'runs/x': no run.* ready model: small$"):
        open_by_name.open_model("runs/x", "segment", data_mesh())
