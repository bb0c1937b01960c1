"""A training step of every fusion: divided among devices, and over groups of a batch."""

from functools import cache

import jax
import numpy as np
import optax
import pytest
from meshes import mesh_of
from tiny_fusion import NAMES, make_tiny, task_of

from brats_jax import models
from brats_jax.models.torch_weights import leaves
from brats_jax.runtime import devices
from brats_jax.training.steps import TrainState, make_train_step
from brats_jax.training.transfer import BY_MODALITY

SGD = optax.sgd(1.0)  # an update is the gradient
# Patients 0 and 1, and 2 and 3, are pairs; T1Gd is in one patient of each, T2 in one of all.
PRESENT = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]], bool)

# One encoder of all modalities, and a stem of each, which takes groups without dropout alone.
SHARED_AND_OWN = [("attention", 0.5), ("stem", 0.0)]


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        make_tiny(patch)
        yield


def start(task):
    """Parameters and statistics, those parameters that begin as 0 included."""
    graph, params, stats = models.split(task.build(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: np.asarray(a) + 0.1 * rng.standard_normal(a.shape), params)
    return graph, jax.tree.map(np.float32, params), jax.device_get(stats)


@cache
def learned(name, count=1, dropout=0.5, rows=(0, 1, 2, 3), **shared):
    """(parameters, statistics) after a step of `count` devices with rows of the batch."""
    # A loss that is a mean over pixels: the gradient is the mean of those of equal parts.
    task = task_of(name, width=4, modality_dropout=dropout, loss_name="focal")
    graph, params, stats = start(task)
    counters = (np.zeros((), np.int32), np.zeros((), np.float32), np.full((), -1, np.int32))
    mesh, rng = mesh_of(count), np.random.default_rng(0)
    state = TrainState(params, stats, SGD.init(params), *counters)
    # Of growing contrast, so that groups have other statistics.
    image = rng.standard_normal((4, 16, 16, 4)) * np.arange(1, 5)[:, None, None, None]
    batch = {
        "image": image.astype(np.float16),
        "label": rng.integers(0, 4, (4, 16, 16)).astype(np.uint8),
        "seed": np.arange(4, dtype=np.uint32),
        "present": PRESENT if dropout else np.ones_like(PRESENT),
    }
    batch = {key: array[[*rows]] for key, array in batch.items()}
    step = make_train_step(task, graph, SGD, mesh, **shared)
    state, _ = step(devices.put_replicated(state, mesh), devices.put_batch(batch, mesh))
    return jax.device_get((state.params, state.stats))


def largest_difference(one, other):
    pairs = zip(*map(jax.tree.leaves, (one, other)), strict=True)
    return max(float(np.abs(np.float64(a) - b).max()) for a, b in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_two_devices_learn_what_one_learns_and_every_part_takes_part(name):
    """Stand-ins for the missing images of one device may lie on the other."""
    one = learned(name)
    assert largest_difference(learned(name, 2), one) < 1e-5
    task = task_of(name, width=4, loss_name="focal")
    before = dict(leaves(start(task)[1]))
    for path, leaf in leaves(one[0]):
        if path[1] in ("shared", *BY_MODALITY):
            assert (before[path] != leaf).any(), path


@pytest.mark.parametrize(("name", "dropout"), SHARED_AND_OWN)
def test_groups_of_a_fusion_are_small_batches_of_patches_with_all_modalities(name, dropout):
    pairs = [learned(name, 1, dropout, (k, k + 1)) for k in (0, 2)]
    assert largest_difference(*pairs) > 1e-2
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *pairs)
    assert largest_difference(learned(name, 1, dropout, norm_group=2), mean) < 1e-5
    assert largest_difference(learned(name, 1, dropout), mean) > 1e-3


@pytest.mark.parametrize(("name", "dropout"), SHARED_AND_OWN)
def test_devices_share_the_groups_of_a_fusion(name, dropout):
    """Two whole groups, and one of the whole batch whose gradients are added up in float32."""
    for given in ({"norm_group": 2}, {"gradient_sum": "float32"}):
        one = learned(name, 1, dropout, norm_group=given.get("norm_group", 0))
        assert largest_difference(learned(name, 2, dropout, **given), one) < 1e-5
