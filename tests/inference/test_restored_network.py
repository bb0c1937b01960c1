"""A network is restored with its weights, and its output becomes labels or a modality."""

import jax
import numpy as np
import prediction_examples as examples
import pytest

from brats_jax import models
from brats_jax.errors import BratsError
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs.folder import FoldFolder, StageFolder
from brats_jax.runtime.devices import data_mesh
from brats_jax.tasks import Pretraining, Segmentation

pytestmark = pytest.mark.usefixtures("shallow")

SEGMENTATION = Segmentation(inputs=examples.SEGMENT_INPUTS, width=4)
PRETRAINING = Pretraining(width=4)


@pytest.mark.parametrize(("stage", "task"), [("segment", SEGMENTATION), ("pretrain", PRETRAINING)])
def test_the_weights_are_those_of_the_checkpoint(example_runs, stage, task):
    folder = StageFolder(example_runs["volume"] / "run" / "fold_1" / stage)
    network = RestoredNetwork(task, folder, data_mesh())
    graph, params, stats = examples.network(task, 1)
    jax.tree.map(np.testing.assert_array_equal, network.params, params)
    jax.tree.map(np.testing.assert_array_equal, network.stats, stats)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, len(task.inputs))).astype(np.float32)
    # As programs: without jit every operation is compiled by itself.
    expected = jax.jit(lambda *state: models.apply(graph, *state, train=False)[0])(params, stats, x)
    output = jax.jit(network.output)(network.params, network.stats, x)
    np.testing.assert_allclose(output, expected, 1e-5)
    assert network.meta.step == 7


def test_logits_become_labels_and_a_modality_stays(example_runs):
    fold = FoldFolder(example_runs["volume"] / "run" / "fold_0")
    network = RestoredNetwork(SEGMENTATION, fold.stage("segment"), data_mesh())
    labels = network.prediction(np.float32([[[[0, 2, 1, 0], [0, 0, 0, 3]]]]))
    assert network.segments and labels.dtype == np.uint8 and labels.tolist() == [[[1, 3]]]
    network = RestoredNetwork(PRETRAINING, fold.stage("pretrain"), data_mesh())
    image = network.prediction(np.float32([[[[0.5], [1.5]]]]))
    assert not network.segments and image.tolist() == [[[0.5, 1.5]]]


def test_a_checkpoint_of_another_network_is_refused(example_runs):
    folder = StageFolder(example_runs["volume"] / "run" / "fold_0" / "segment")
    with pytest.raises(BratsError, match="another model: width is 4 there, 8 here"):
        RestoredNetwork(Segmentation(inputs=examples.SEGMENT_INPUTS, width=8), folder, data_mesh())
