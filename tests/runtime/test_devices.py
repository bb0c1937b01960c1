"""Compiler options, the compilation cache, and freed memory that the C library keeps.

The latter is counted in page faults, in a process of its own.
"""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from brats_jax.errors import BratsError
from brats_jax.runtime import devices

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("platform", "deterministic", "options"),
    [
        ("cuda", True, {"xla_gpu_exclude_nondeterministic_ops": True}),
        ("gpu", True, {"xla_gpu_exclude_nondeterministic_ops": True}),
        ("gpu", False, {}),
        ("cpu", True, {}),
        ("tpu", True, {}),
    ],
)
def test_only_gpus_need_an_option_for_reproducible_results(platform, deterministic, options):
    device = types.SimpleNamespace(platform=platform)
    mesh = types.SimpleNamespace(devices=np.array([device, device]))
    assert devices.compiler_options(mesh, deterministic=deterministic) == options


COMPILE = """
import collections, json, sys
import jax
from brats_jax.runtime import devices
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.split("/")[-1]]))
devices.use_compilation_cache(sys.argv[1])
jax.jit(lambda x: (x @ x.T).sum())(jax.numpy.arange(12.0).reshape(3, 4)).block_until_ready()
print(json.dumps({name: events[name] for name in ("cache_hits", "cache_misses")}))
"""


def compile_in_a_process(setting, home, threshold):
    """(hits, misses) of the cache, which keeps programs that take `threshold` seconds, if given."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(home)}
    del environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]  # set for all tests
    if threshold is not None:
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = threshold
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, setting],
        cwd=ROOT, capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    events = json.loads(done.stdout)
    return events["cache_hits"], events["cache_misses"]


def test_a_second_process_takes_all_programs_from_the_cache(tmp_path):
    folder = tmp_path / "brats_jax" / "compiled"
    hits, misses = compile_in_a_process("auto", tmp_path, "0")
    assert hits == 0 and misses > 1
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("*-cache")}
    assert len(kept) == misses

    assert compile_in_a_process(str(folder), tmp_path / "else", "0") == (misses, 0)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*-cache")} == kept
    assert not (tmp_path / "else").exists()


def test_programs_that_compile_in_a_moment_are_not_cached_by_default(tmp_path):
    compile_in_a_process("auto", tmp_path, None)
    assert not list((tmp_path / "brats_jax" / "compiled").iterdir())


def test_a_batch_must_be_a_multiple_of_the_number_of_devices():
    mesh = devices.data_mesh()
    assert mesh.size == 2
    devices.check_batch_size(4, mesh)
    for size in (0, 3):
        with pytest.raises(BratsError, match=f"size={size} cannot be divided among 2 devices"):
            devices.check_batch_size(size, mesh, "size")
    assert [devices.round_up(n, mesh) for n in (1, 2, 3)] == [2, 2, 4]


def test_a_batch_is_divided_among_the_devices_and_state_is_on_each():
    mesh = devices.data_mesh()
    rows = np.arange(8.0).reshape(4, 2)
    image = devices.put_batch({"image": rows}, mesh)["image"]
    assert [part.data.tolist() for part in image.addressable_shards] == [
        rows[:2].tolist(), rows[2:].tolist()
    ]  # fmt: skip
    steps = devices.put_batches({"image": rows[None]}, mesh)["image"]
    assert [part.data.shape for part in steps.addressable_shards] == [(1, 2, 2)] * 2
    state = devices.put_replicated({"w": rows}, mesh)["w"]
    assert [part.data.tolist() for part in state.addressable_shards] == [rows.tolist()] * 2


def test_the_automatic_dtype_is_float32_on_cpu():
    assert devices.compute_dtype("auto") == devices.compute_dtype("float32") == np.float32
    assert devices.compute_dtype("bfloat16") == jax.numpy.bfloat16
    with pytest.raises(BratsError, match="unknown dtype 'half'; valid: auto, bfloat16, float32"):
        devices.compute_dtype("half")


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    before = jax.config.jax_compilation_cache_dir
    devices.use_compilation_cache("auto")
    assert jax.config.jax_compilation_cache_dir == before
