import numpy as np
import pytest
from tiny_fusion import PRESENT, batch, make_tiny, network_of, run, task_of

from brats_jax import models
from brats_jax.data.modalities import MODALITIES


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    make_tiny(monkeypatch)


def encoder_by_hand(kernel, bias, image):
    """The tiny encoder in prediction with running statistics 0 and 1: [H/2, W/2, C]."""
    y = image[::2, ::2, None] * kernel[0, 0, 0] / np.sqrt(1 + 1e-5)
    return np.maximum(y * bias["scale"] + bias["bias"] + bias.get("shift", 0), 0)


@pytest.mark.parametrize("name", ["encoders", "encoders:own"])
def test_maps_are_means_over_the_modalities_that_are_there(name):
    task, given = task_of(name), batch()
    network = network_of(task)
    params = network[1]["encoder"]
    maps, _ = run(network, task.test_input(given))
    images = given["image"].astype(np.float32)
    for b, there in enumerate(PRESENT):
        found = []
        for m in np.flatnonzero(there):
            own = params["shared"] if "shared" in params else params["own"][MODALITIES[m]]
            norm = dict(own["bn1"])
            if "shared" in params:
                norm["shift"] = params["identity"][MODALITIES[m]]["bias"]
            found.append(encoder_by_hand(own["conv1"]["kernel"], norm, images[b, ..., m]))
        np.testing.assert_allclose(maps[0][b], np.mean(found, axis=0), rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(maps[4][b], maps[0][b][::16, ::16], rtol=1e-5)


@pytest.mark.parametrize("name", ["encoders", "attention"])
def test_the_order_of_the_modalities_does_not_matter_to_shared_weights(name):
    task, given = task_of(name), batch()
    other = task_of(name, inputs=("flair", "t1", "t2", "t1gd"))
    network = network_of(task)
    maps, _ = run(network, task.test_input(given))
    graph = models.split(other.build(0))[0]
    moved, _ = run((graph, *network[1:]), other.test_input(given))
    for one, two in zip(maps, moved, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
