import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from meshes import mesh_of
from pointwise import Pointwise, PointwiseTask

from brats_jax import models
from brats_jax.data.modalities import REGIONS, channel_indices
from brats_jax.tasks import Segmentation
from brats_jax.training.validation import Validation

TASK = PointwiseTask()


@pytest.fixture
def network():
    graph, params, stats = models.split(TASK.build(0))
    return graph, params, jax.tree.map(lambda s: s + 0.5, stats)


def validate(network, store, slices, batch_size, between_batches=lambda: None, of=2):
    graph, params, stats = network
    validation = Validation(TASK, graph, store, slices, batch_size, mesh_of(of))
    return validation.run(params, stats, between_batches)


def test_scores_are_means_over_all_slices_also_if_the_last_batch_is_not_full(network, small_store):
    slices = np.arange(3, 13)
    images = small_store.read(slices)[0].astype(np.float32)
    x, target = (images[..., list(channel_indices(n))] for n in (TASK.inputs, TASK.targets))
    output, _ = models.apply(*network, jnp.asarray(x), train=False)
    expected = float(np.square(output - target).mean())
    values = validate(network, small_store, slices, 4)
    assert values["mse"] == pytest.approx(expected, rel=1e-5)
    # The loss is a mean over batches, the last filled with the first slices again.
    assert values["loss"] == pytest.approx(expected, rel=0.2)
    assert validate(network, small_store, slices, 10)["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 7])
def test_loss_and_scores_do_not_depend_on_the_number_of_devices(network, small_store, batch_size):
    slices = np.arange(3, 13)
    one, two = (validate(network, small_store, slices, batch_size, of=n) for n in (1, 2))
    assert one == pytest.approx(two, rel=1e-6)


@dataclasses.dataclass(frozen=True)
class PointwiseSegmentation(Segmentation):
    def build(self, seed):
        return Pointwise(len(self.inputs), self.dtype, nnx.Rngs(seed), len(self.outputs))


@pytest.mark.parametrize("outputs", ["classes", "regions"])
def test_volume_dice_is_that_of_the_predicted_volumes_on_any_number_of_devices(
    small_store, outputs
):
    task = PointwiseSegmentation(outputs_name=outputs, selection_metric="volume_dice")
    graph, params, stats = models.split(task.build(0))
    slices = np.arange(16, 48)  # of patients 1 and 2
    images, truth = small_store.read(slices)
    output, _ = models.apply(
        graph, params, stats, task.test_input({"image": jnp.asarray(images)}), train=False
    )
    predicted = np.asarray(task.result(output))
    expected = []
    for values in REGIONS.values():
        of_patients = []
        for part in (slice(0, 16), slice(16, 32)):
            p, t = np.isin(predicted[part], values), np.isin(truth[part], values)
            both = p.sum() + t.sum()
            of_patients.append(2 * (p & t).sum() / both if both else 1.0)
        expected.append(np.mean(of_patients))
    for of, batch_size in ((1, 5), (2, 12)):
        validation = Validation(task, graph, small_store, slices, batch_size, mesh_of(of))
        values = validation.run(params, stats, lambda: None)
        by_region = [values[f"volume_dice_{name}"] for name in REGIONS]
        np.testing.assert_allclose(by_region, expected, rtol=1e-6)
        assert values["volume_dice"] == pytest.approx(np.mean(expected))


def test_validation_can_be_stopped_between_two_batches(network, small_store):
    class Stopped(Exception):
        pass

    def stop():
        raise Stopped

    with pytest.raises(Stopped):
        validate(network, small_store, np.arange(8), 4, stop)
