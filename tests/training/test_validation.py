import jax
import jax.numpy as jnp
import numpy as np
import pytest
from meshes import mesh_of
from pointwise import PointwiseTask

from brats_jax import models
from brats_jax.data.modalities import channel_indices
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


def test_validation_can_be_stopped_between_two_batches(network, small_store):
    class Stopped(Exception):
        pass

    def stop():
        raise Stopped

    with pytest.raises(Stopped):
        validate(network, small_store, np.arange(8), 4, stop)
