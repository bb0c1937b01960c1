"""A run with attention over modalities and dropout: any subset, exported, and loaded again."""

import json

import jax
import numpy as np
import prediction_examples as examples
import pytest

from brats_jax.data.store.reader import Store
from brats_jax.inference import model as inference
from brats_jax.inference import stablehlo, weights_writer
from brats_jax.inference.trained_run import open_run
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")

CASE = examples.CASES[1]
SUBSETS = (("t1gd", "flair", "t2"), ("flair",), ("t1gd", "t2"))


@pytest.fixture(scope="module")
def run(example_runs, shallow, tmp_path_factory):
    store = Store.open(example_runs["volume"] / "store")
    run = tmp_path_factory.mktemp("fused") / "run"
    changes = {"model__fusion": "attention", "segment__modality_dropout": 0.5}
    return examples.write_run(run, store, **changes)


@pytest.fixture(scope="module")
def scan(run, example_runs):
    return inference.load(run / "fold_0").scan(example_runs["volume"] / "cases" / CASE)


def with_junk(images, subset, junk):
    """The images [..., 4] with junk in the place of every other modality."""
    there = np.isin(examples.INPUTS, subset)
    return np.where(there, images, np.asarray(junk, images.dtype))


def test_a_subset_counts_alone_and_one_program_serves_all(run, scan, tmp_path):
    model = inference.load(run / "fold_0")
    images = model.normalise(scan)
    ensemble, found = model.ensemble, {}
    for subset in SUBSETS:
        labels = ensemble.segment(images, present=subset).labels
        again = ensemble.segment(with_junk(images, subset, np.nan), present=subset).labels
        np.testing.assert_array_equal(again, labels)
        found[subset] = labels
    assert ensemble._add._cache_size() == 1
    np.testing.assert_array_equal(ensemble.segment(images).labels, found[SUBSETS[0]])
    assert (found[SUBSETS[1]] != found[SUBSETS[2]]).any()
    # Exported weights are the same network.
    weights_writer.write(
        model.trained, tmp_path / "weights", weights_writer.WeightsOptions(dtype="float32")
    )
    loaded = inference.load(tmp_path / "weights")
    assert loaded.trained.task == model.trained.task and loaded.trained.task.takes_missing
    assert loaded.trained.hash == model.trained.hash
    # The exported program takes the subset as an input, and raw images.
    trained = open_run(run / "fold_0", "segment", data_mesh(), dtype="float32")
    stablehlo.write(trained, tmp_path / "exported", slice_shape=examples.SHAPE[:2])
    program = jax.export.deserialize(
        bytearray((tmp_path / "exported" / "segment.stablehlo").read_bytes())
    )
    raw = scan.images.astype(np.float32)
    for subset in SUBSETS[:2]:
        there = np.isin(examples.INPUTS, subset)
        labels = np.asarray(program.call(raw, there))
        junk = program.call(with_junk(raw, subset, np.nan), there)
        np.testing.assert_array_equal(junk, labels)
        if subset == SUBSETS[0]:
            assert (labels == found[subset]).mean() > 0.99
    document = json.loads((tmp_path / "exported" / "segment.json").read_text())
    assert [one["name"] for one in document["inputs"]] == ["images", "present"]
    assert document["model"]["fusion"] == "attention"
    assert document["model"]["modality_dropout"] == 0.5
