"""A run that reads neighbouring slices: evaluation, prediction and export give it the same ones."""

import json

import jax
import numpy as np
import prediction_examples as examples
import pytest
from safetensors import safe_open

from brats_jax import inference, models
from brats_jax.data.modalities import channel_indices
from brats_jax.data.store.reader import Store
from brats_jax.evaluation.slices import predict_slices
from brats_jax.inference import export_files, stablehlo
from brats_jax.inference.trained_run import open_run
from brats_jax.runtime.devices import data_mesh
from brats_jax.training.encoder_weights import load_encoder

pytestmark = pytest.mark.usefixtures("shallow")

CASE = examples.CASES[1]


@pytest.fixture(scope="module")
def run(example_runs, shallow, tmp_path_factory):
    store = Store.open(example_runs["volume"] / "store")
    run = tmp_path_factory.mktemp("context") / "run"
    return examples.write_run(run, store, segment__context=1)


@pytest.fixture(scope="module")
def found(run, example_runs):
    """(model of fold 0, normalised slices, logits of every slice with its neighbours by hand)."""
    model = inference.load(run / "fold_0")
    images = model.normalise(model.scan(example_runs["volume"] / "cases" / CASE))
    own = images[..., list(channel_indices(model.inputs))].astype(np.float32)
    below, above = own[[0, 0, 1, 2, 3, 4]], own[[1, 2, 3, 4, 5, 5]]
    network = model.trained.members[0].network
    x = np.concatenate([own, below, above], axis=-1)
    return model, images, np.asarray(jax.jit(network.output)(network.params, network.stats, x))


def decided(logits):
    first, second = np.moveaxis(np.sort(logits, -1)[..., :-3:-1], -1, 0)
    return logits.argmax(-1), first - second > 1e-4


def test_prediction_and_evaluation_read_the_neighbours_of_the_same_patient(found, example_runs):
    model, images, logits = found
    expected, sure = decided(logits)
    assert sure.mean() > 0.99 and len(np.unique(expected)) > 1
    ensemble = model.ensemble
    for batch_size in (0, 2):
        one = (
            inference.Model(model.trained, batch_size=batch_size).ensemble
            if batch_size
            else ensemble
        )
        np.testing.assert_array_equal(one.segment(images).labels[sure], expected[sure])
    store = Store.open(example_runs["volume"] / "store")
    rows = np.array(store.slices_of(CASE))  # the second of three patients
    network = model.trained.members[0].network
    labels = predict_slices(network, store, rows)
    np.testing.assert_array_equal(labels[sure], expected[sure])
    # One by one and out of order, too: the neighbours come from the store.
    some = predict_slices(network, store, rows[[4, 2]])
    np.testing.assert_array_equal(some[sure[[4, 2]]], expected[[4, 2]][sure[[4, 2]]])
    assert (decided(logits)[0] != labels).mean() < 0.01
    scan = model.scan(example_runs["volume"] / "cases" / CASE)
    assert model.facts(scan)["neighbouring slices"] == "1 on each side"


def test_the_exported_program_reads_them_itself(run, found, example_runs, tmp_path):
    _, _, logits = found
    expected, sure = decided(logits)
    trained = open_run(run / "fold_0", "segment", data_mesh(), dtype="float32")
    program = jax.export.deserialize(bytearray(stablehlo.stablehlo(trained, examples.SHAPE[:2])))
    scan = inference.load(run / "fold_0").scan(example_runs["volume"] / "cases" / CASE)
    labels = np.asarray(program.call(scan.images.astype(np.float32)))
    np.testing.assert_array_equal(labels[sure], expected[sure])
    # The weights name their channels, by which another training takes them.
    path = tmp_path / "weights.safetensors"
    path.write_bytes(export_files.weights_file(trained.members[0]))
    with safe_open(path, framework="np") as file:
        facts = file.metadata()
    assert facts["modalities"] == ",".join(trained.task.stem_channels)
    assert "t1gd@-1" in facts["modalities"] and json.loads(facts["model"])["context"] == 1
    _, params, stats = models.split(trained.task.build(9))
    new, _ = load_encoder(path, params, stats, ("T1ce", *trained.task.stem_channels[1:]))
    kernel = np.asarray(trained.members[0].network.params["encoder"]["conv1"]["kernel"])
    np.testing.assert_array_equal(new["encoder"]["conv1"]["kernel"], kernel)
