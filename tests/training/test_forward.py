"""A step that devices share: groups of BatchNorm, messages, and sums of gradients."""

import os
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from meshes import mesh_of
from pointwise import PointwiseTask

from brats_jax import models
from brats_jax.errors import BratsError
from brats_jax.models.ops.groups import WHOLE_BATCH, Groups
from brats_jax.runtime import devices
from brats_jax.training.forward import check_gradient_sum, groups_of, groups_of_device
from brats_jax.training.steps import TrainState, make_train_step

ROOT = Path(__file__).parents[2]
SGD = optax.sgd(1.0)  # an update is the gradient


def begun(mesh, dtype=jnp.float32, size=4, **shared):
    """(step, state, batch) of samples of growing contrast, so that groups have other statistics."""
    task = PointwiseTask(dtype=dtype)
    graph, params, stats = models.split(task.build(0))
    counters = (np.zeros((), np.int32), np.zeros((), np.float32), np.full((), -1, np.int32))
    state = devices.put_replicated(
        jax.device_get(TrainState(params, stats, SGD.init(params), *counters)), mesh
    )
    image = np.random.default_rng(0).standard_normal((size, 8, 8, 4))
    image *= np.arange(1, size + 1)[:, None, None, None]
    rows = devices.local_rows(size, mesh)
    batch = {
        "image": image.astype(np.float16)[rows],
        "label": np.zeros((size, 8, 8), np.uint8)[rows],
        "seed": np.zeros(size, np.uint32)[rows],
    }
    step = make_train_step(task, graph, SGD, mesh, **shared)
    return step, state, devices.put_batch(batch, mesh)


def learned(*given, **shared):
    step, state, batch = begun(*given, **shared)
    state, _ = step(state, batch)
    return jax.device_get((state.params, state.stats))


def largest_difference(one, other):
    pairs = zip(*map(jax.tree.leaves, (one, other)), strict=True)
    return max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in pairs)


def messages(text):
    return Counter(re.findall(r" (all-\w+|reduce-scatter|collective-permute)(?:-start)?\(", text))


@pytest.fixture(scope="module")
def of_pairs():
    """One device, groups of two."""
    return learned(mesh_of(1), norm_group=2)


def test_two_devices_learn_what_one_learns_in_the_same_groups_and_nothing_else(of_pairs):
    assert largest_difference(learned(mesh_of(2), norm_group=2), of_pairs) < 2e-6
    assert largest_difference(learned(mesh_of(1)), of_pairs) > 1e-2


def test_the_numbers_are_those_of_small_batches(of_pairs):
    """The loss is a mean: the gradient is the mean of the gradients of the two pairs."""
    step, state, batch = begun(mesh_of(1))
    start, pairs = jax.device_get(state.params), []
    for first in (0, 2):
        step, state, _ = begun(mesh_of(1))
        state, _ = step(state, {name: array[first : first + 2] for name, array in batch.items()})
        pairs.append(jax.device_get((state.params, state.stats)))
    assert largest_difference(pairs[0], pairs[1]) > 1e-2
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *pairs)
    assert largest_difference(mean, of_pairs) < 2e-6
    assert largest_difference(start, of_pairs[0]) > 1e-2


def test_devices_with_whole_groups_exchange_gradients_alone():
    """In the compiled program: one sum, of all gradients and running statistics together."""

    def counted(**shared):
        step, state, batch = begun(mesh_of(2), **shared)
        return messages(step.lower(state, batch).compile().as_text())

    assert counted(norm_group=2) == {"all-reduce": 1}
    assert sum(counted().values()) > 1  # the statistics of the whole batch


def test_groups_that_end_within_those_of_a_device_give_the_same_numbers():
    """Two devices with three samples each, in groups of two."""
    one = learned(mesh_of(1), size=6, norm_group=2)
    assert largest_difference(learned(mesh_of(2), size=6, norm_group=2), one) < 2e-6


def test_a_group_of_the_whole_batch_is_the_same_program_as_none():
    for count in (1, 2):
        texts = []
        for shared in ({}, {"norm_group": 4}):
            step, state, batch = begun(mesh_of(count), **shared)
            texts.append(step.lower(state, batch).as_text())
        assert texts[0] == texts[1]


def test_gradients_of_kernels_are_added_up_in_the_type_that_is_given(of_pairs):
    results = {}
    for dtype in ("float32", "bfloat16"):
        shared = {"norm_group": 2, "gradient_sum": dtype}
        step, state, batch = begun(mesh_of(2), **shared)
        text = step.lower(state, batch).as_text()
        sums = re.findall(r"all_reduce.*?\) : \(tensor<\d+x(f32|bf16)>\)", text, re.DOTALL)
        assert set(sums) == {"float32": {"f32"}, "bfloat16": {"f32", "bf16"}}[dtype]
        results[dtype] = learned(mesh_of(2), **shared)
    assert largest_difference(results["float32"], of_pairs) < 2e-6
    assert 1e-5 < largest_difference(results["bfloat16"], of_pairs) < 0.02
    # Also of the whole batch, whose statistics then are exchanged by name.
    whole = learned(mesh_of(2), gradient_sum="float32")
    assert largest_difference(whole, learned(mesh_of(1))) < 2e-6


def test_bfloat16_networks_with_groups_are_close_to_one_device():
    one, two = (learned(mesh_of(n), jnp.bfloat16, norm_group=2) for n in (1, 2))
    assert largest_difference(one, two) < 0.02


TWO_PROCESSES = """
import sys; sys.path[:0] = ["tests", "tests/training"]
from brats_jax.runtime import devices, distributed
distributed.initialize("127.0.0.1:" + sys.argv[1], 2, int(sys.argv[2]))
import jax, numpy as np
import test_forward
found = test_forward.learned(devices.training_mesh(), norm_group=2)
np.savez(sys.argv[3], *jax.tree.leaves(found))
"""


def test_two_processes_learn_the_bits_of_two_devices(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(port), str(i), tmp_path / f"{i}.npz"],
            cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags},
        )
        for i in range(2)
    ]  # fmt: skip
    try:
        assert [process.wait(120) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    expected = jax.tree.leaves(learned(mesh_of(2), norm_group=2))
    for i in range(2):
        with np.load(tmp_path / f"{i}.npz") as found:
            for one, other in zip(found.values(), expected, strict=True):
                np.testing.assert_array_equal(one, other)


def test_groups_of_a_batch_and_of_a_device():
    assert groups_of(16, 0) == groups_of(16, 16) == WHOLE_BATCH and groups_of(16, 4) == Groups(4)
    assert groups_of_device(128, 16, 8) == Groups(16)
    assert groups_of_device(128, 16, 2) == Groups(16)  # four of them
    assert groups_of_device(128, 64, 8) == Groups(16, "data", 4)
    assert groups_of_device(128, 0, 8) == Groups(16, "data", 8)
    assert groups_of_device(24, 6, 6) is None


def test_sums_that_the_compiler_decides_on_are_refused():
    check_gradient_sum(24, 6, 6, "auto")
    with pytest.raises(BratsError, match=r"of 6 devices holds 4 patches, which .*group=6 neither"):
        check_gradient_sum(24, 6, 6, "bfloat16")
