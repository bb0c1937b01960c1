"""The parameters that a stage starts from, with the settings of transfer."""

import jax
import numpy as np
import pytest
import safetensors.numpy
from experiment_examples import config_of

from brats_jax import models
from brats_jax.experiments.config import parse, pretraining, segmentation
from brats_jax.experiments.initialisation import Initialisation
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.models.torch_weights import torch_state
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture
def initialisation_of(finished, small_store, compiled_programs):
    """Of the segmentation of a finished run, with other settings."""
    workdir, _, _ = finished

    def make(**changes):
        settings = parse(config_of(small_store, compiled_programs, **changes))
        pretrained = RunFolder(workdir).fold(0).stage("pretrain")
        return Initialisation(settings, segmentation(settings), pretrained, data_mesh(), "fold 0")

    return make


@pytest.fixture
def weight_file(tmp_path):
    """The encoder of a network with three inputs, as torchvision would have it."""

    def write(task):
        _, params, stats = models.split(task.build(3))
        encoder = torch_state({"encoder": params["encoder"]}, {"encoder": stats["encoder"]})
        stem = np.random.default_rng(0).normal(size=(encoder["conv1.weight"].shape[0], 3, 7, 7))
        encoder["conv1.weight"] = stem.astype(np.float32)
        safetensors.numpy.save_file(encoder, tmp_path / "w.safetensors")
        return tmp_path / "w.safetensors", stem.astype(np.float32)

    return write


def test_stem_channels_without_a_pretraining_may_come_from_the_weight_file(
    initialisation_of, weight_file
):
    """T1 and T1Gd of the pretraining; T2 and FLAIR red and green of the file, times 3 / 4."""
    path, stem = weight_file(initialisation_of().task)
    found, trees = {}, {}
    for other in ("random", "encoder_init"):
        start = initialisation_of(encoder_init=str(path), transfer__other_stem=other)
        _, params, stats = models.split(start.task.build(0))
        source = RestoredNetwork(pretraining(start.settings), start.pretrained, data_mesh())
        trees[other] = start.initialiser()(params, stats)
        found[other] = np.asarray(trees[other][0]["encoder"]["conv1"]["kernel"])
        old = np.asarray(source.params["encoder"]["conv1"]["kernel"])
        np.testing.assert_array_equal(found[other][:, :, :2], old)
    random = np.asarray(params["encoder"]["conv1"]["kernel"])
    np.testing.assert_array_equal(found["random"][:, :, 2:], random[:, :, 2:])
    expected = 0.75 * stem.transpose(2, 3, 1, 0)[:, :, [2, 0]]
    np.testing.assert_allclose(found["encoder_init"][:, :, 2:], expected, rtol=1e-6)
    for tree in trees.values():
        tree[0]["encoder"]["conv1"]["kernel"] = 0
    jax.tree.map(np.testing.assert_array_equal, trees["random"], trees["encoder_init"])


def test_only_what_is_transferred_is_frozen(initialisation_of, weight_file):
    """Counts of leaves: 20 convolutions of an encoder with one block a stage, decoder, head."""
    assert initialisation_of().transferred() is None
    for parts, inputs, stem in (
        ("encoder", "all", [True, True, False, False]),
        ("stem", "stem", [True, True, False, False]),
        ("all_but_stem", "layers", [False] * 4),
    ):
        start = initialisation_of(transfer__freeze_epochs=1, transfer__parts=parts)
        marks = start.transferred()
        _, params, _ = models.split(start.task.build(0))
        assert jax.tree.structure(marks) == jax.tree.structure(params)
        assert marks["encoder"]["conv1"]["kernel"].ravel().tolist() == stem
        assert not any(jax.tree.leaves((marks["decoder"], marks["head"])))
        assert marks["encoder"]["bn1"]["scale"] == (inputs != "layers")
        layers = {bool(mark) for mark in jax.tree.leaves(marks["encoder"]["layer1"])}
        assert layers == {inputs != "stem"}


def test_without_pretraining_an_encoder_from_a_file_is_what_is_frozen(
    initialisation_of, weight_file
):
    path, _ = weight_file(initialisation_of().task)
    slower = {"ssl": False, "transfer__learning_rate_factor": 0.1}
    assert initialisation_of(**slower).transferred() is None  # nothing was transferred
    marks = initialisation_of(encoder_init=str(path), **slower).transferred()
    assert all(np.all(mark) for mark in jax.tree.leaves(marks["encoder"]))
    assert not any(jax.tree.leaves((marks["decoder"], marks["head"])))
