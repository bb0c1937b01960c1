"""The files of exported weights are compared; test_exported_weights.py damages them."""

import prediction_examples as examples
import pytest

from brats_jax.errors import BratsError
from brats_jax.inference import weights_reader, weights_writer
from brats_jax.inference.trained_run import open_run
from brats_jax.runs.documents.weights import WeightsFolder
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


def test_files_are_compared_with_the_sums_in_the_description(example_runs, tmp_path):
    trained = open_run(example_runs["slice"] / "run" / "fold_0", "segment", data_mesh())
    weights_writer.write(trained, tmp_path, weights_writer.WeightsOptions(card=True))
    folder = WeightsFolder(tmp_path)
    assert weights_reader.verify(folder) == [folder.weights, folder.card]
    folder.card.write_text("mine")
    with pytest.raises(BratsError, match=r"README\.md is not the file that config\.json describes"):
        weights_reader.verify(folder)
    folder.card.unlink()
    with pytest.raises(BratsError, match=r"README\.md is missing"):
        weights_reader.verify(folder)


def test_arrays_of_a_fold_are_found_by_their_beginning():
    arrays = {f"segment.fold_{k}.{name}": k for k in (1, 12) for name in ("a", "b.c")}
    assert weights_reader.arrays_below(arrays, "segment", 1) == {"a": 1, "b.c": 1}
    assert set(weights_reader.arrays_below(arrays, "segment")) == {
        f"fold_{k}.{name}" for k in (1, 12) for name in ("a", "b.c")
    }


def test_in_plane_size_and_normalisation_are_those_of_the_training(example_runs, tmp_path):
    trained = open_run(example_runs["slice"] / "run" / "fold_0", "segment", data_mesh())
    weights_writer.write(trained, tmp_path, weights_writer.WeightsOptions())
    found = weights_reader.open_weights(tmp_path, "segment", data_mesh())
    assert found.normalisation == "slice" and found.in_plane == examples.SHAPE[:2]
