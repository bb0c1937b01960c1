from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_fusion import NAMES, make_tiny, maps_of, task_of

from brats_jax import models
from brats_jax.data.modalities import MODALITIES
from brats_jax.models import torch_weights

PRESENT = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 0, 1, 0]], bool)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    make_tiny(monkeypatch)


def batch(count=3, present=PRESENT, seed=0):
    images = np.random.default_rng(seed).standard_normal((count, 32, 32, 4)).astype(np.float16)
    return {"image": images} | ({} if present is None else {"present": present})


def network_of(task, seed=0):
    """The network with noise in all parameters, those that begin as 0 included."""
    graph, params, stats = models.split(task.build(seed))
    rng = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda a: a + jnp.asarray(0.3 * rng.standard_normal(a.shape), a.dtype), params
    )
    return graph, params, stats


def run(network, x, **kinds):
    return jax.jit(partial(maps_of, network[0], **kinds))(*network[1:], x)


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


@pytest.mark.parametrize("name", NAMES)
def test_a_network_keeps_the_contract_and_each_example_is_its_own(name):
    task, given = task_of(name), batch()
    network = network_of(task)
    x = task.test_input(given)
    maps, stats = run(network, x)
    assert [y.shape for y in maps] == [(3, 16 >> k, 16 >> k, 8) for k in range(5)]
    jax.tree.map(np.testing.assert_array_equal, stats, network[2])
    # Neither the other examples nor the content of missing images take part.
    junk = np.where(PRESENT[:, None, None], given["image"], np.float16(np.nan))
    again, _ = run(network, task.test_input({**given, "image": junk}))
    for one, other in zip(maps, again, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
        assert np.isfinite(one).all()
    # Modalities are not interchangeable, and of none at all the maps are finite.
    swapped, _ = run(network, task.test_input({**given, "image": given["image"][..., ::-1]}))
    assert not np.allclose(swapped[0], maps[0])
    nothing, _ = run(network, task.test_input({**given, "present": np.zeros((3, 4), bool)}))
    assert all(np.isfinite(y).all() for y in nothing)


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


@pytest.mark.parametrize("name", ["encoders:own", "stem"])
def test_statistics_in_training_are_of_real_images_alone(name):
    """T1 of two patients: the second's place is taken by the third's. No patient has T1Gd."""
    task, given = task_of(name), batch()
    network = network_of(task)
    x = models.presence.encoded(jnp.asarray(given["image"], jnp.float32), PRESENT)
    maps, stats = run(network, x, train=True)
    part = "own" if name == "encoders:own" else "stems"
    params, stats, before = (tree["encoder"][part] for tree in (network[1], stats, network[2]))
    jax.tree.map(np.testing.assert_array_equal, stats["t1gd"], before["t1gd"])
    if part == "own":  # the tiny convolution keeps every second pixel
        t1 = given["image"][..., 0].astype(np.float32)[[0, 2, 2], ::2, ::2]
        expected = 0.1 * t1.mean() * np.asarray(params["t1"]["conv1"]["kernel"])[0, 0, 0]
        np.testing.assert_allclose(stats["t1"]["bn1"]["mean"], expected, atol=1e-5)
    assert all(np.isfinite(y).all() for y in maps)


def test_attention_starts_as_the_mean():
    """Its queries and the output of the attention over positions are 0 at first."""
    given = batch()
    task = task_of("attention")
    graph, params, stats = models.split(task.build(0))
    mean_task = task_of("encoders")
    x = task.test_input(given)
    maps, _ = run((graph, params, stats), x)
    keep = ("shared", "identity")
    plain = {**params, "encoder": {k: v for k, v in params["encoder"].items() if k in keep}}
    graph = models.split(mean_task.build(0))[0]
    means, _ = run((graph, plain, stats), x)
    for one, two in zip(maps, means, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_weights_under_torchs_names_are_the_network(name):
    _, params, stats = network_of(task_of(name))
    state = torch_weights.torch_state(params, stats)
    assert len(state) == len(jax.tree.leaves((params, stats)))
    again = torch_weights.from_torch_state(state, params, stats)
    jax.tree.map(np.testing.assert_array_equal, again, (params, stats))
