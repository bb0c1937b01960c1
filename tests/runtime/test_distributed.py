"""Training by several processes: real ones, on CPU."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from brats_jax.data.patches import PatchPlan
from brats_jax.data.pipeline import TrainingBatches
from brats_jax.data.whole_slices import whole_slice_batches
from brats_jax.errors import BratsError
from brats_jax.runs import checkpoints
from brats_jax.runs.metrics_jsonl import read_metrics
from brats_jax.runtime import devices, distributed, locks

ROOT = Path(__file__).parents[2]
EPOCH = 60
LIMIT_S = 600  # of a command, on a machine that others use too


def start(folder, store, cache, *flags, number=None, of=1, port=0):
    """One process of `of`, or a single one with two devices; writes to <folder>/output.NUMBER."""
    command = [
        *(sys.executable, "-m", "tests.pointwise", "--config=tests/tiny_config.py"),
        *(f"--workdir={folder / 'run'}", f"--config.data.store={store}", "--mode=pretrain"),
        *(f"--config.compilation_cache={cache}", f"--config.pretrain.steps_per_epoch={EPOCH}"),
        *("--config.train.save_every_steps=7", "--config.evaluation.panels=0", *flags),
    ]
    if number is not None:
        command += [f"--coordinator=127.0.0.1:{port}", f"--num_processes={of}"]
        command += [f"--process_id={number}"]
    count = 2 if number is None else 1
    folder.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}",
        "SEEN": str(folder / f"seen.{number or 0}"),
    }
    with (folder / f"output.{number or 0}").open("w") as output:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment
        )


def start_pair(folder, store, cache, *flags, second=()):
    """Two processes with a device each; `second`: flags of the second one alone."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return [
        start(folder, store, cache, *flags, *(second if i else ()), number=i, of=2, port=port)
        for i in range(2)
    ]


def ends(folder, started, timeout=LIMIT_S):
    """(status, output) of each."""
    try:
        statuses = [process.wait(timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(s, (folder / f"output.{i}").read_text()) for i, s in enumerate(statuses)]


def stage_of(folder):
    return folder / "run" / "fold_0" / "pretrain"


def wait_for_step(folder, step, started):
    """Until `step` is logged; all processes must be running."""
    deadline = time.monotonic() + LIMIT_S
    steps = [0]
    while max(steps) < step and time.monotonic() < deadline:
        assert all(p.poll() is None for p in started), (folder / "output.0").read_text()
        steps = [0, *(r["step"] for r in read_metrics(stage_of(folder) / "metrics.jsonl"))]
        time.sleep(0.005)


def state_at_the_end(directory):
    with checkpoints.ocp.CheckpointManager(directory.absolute()) as manager:
        step = manager.latest_step()
        arguments = checkpoints.ocp.args.Composite(state=checkpoints.ocp.args.StandardRestore())
        return step, jax.device_get(manager.restore(step, args=arguments).state)


def numbers(folder):
    records = read_metrics(stage_of(folder) / "metrics.jsonl")
    return [{k: v for k, v in r.items() if k != "patches_per_second"} for r in records]


def seen(folder, number=0):
    return [json.loads(line) for line in (folder / f"seen.{number}").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(small_store, compiled_programs, tmp_path_factory):
    """The folder of a run by one process with two devices, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder, small_store.path, compiled_programs)
    ((status, output),) = ends(folder, [process])
    assert status == 0, output
    return folder


@pytest.fixture(scope="module")
def interrupted(small_store, compiled_programs, tmp_path_factory):
    """A run by two processes that one signal to the second one has stopped: (folder, ends)."""
    folder = tmp_path_factory.mktemp("interrupted")
    pair = start_pair(folder, small_store.path, compiled_programs)
    wait_for_step(folder, 10, pair)
    pair[1].send_signal(signal.SIGTERM)
    return folder, ends(folder, pair)


def test_a_signal_to_one_process_stops_all_at_the_same_step(interrupted):
    folder, ((first, output), (second, other)) = interrupted
    assert first == second == 128 + signal.SIGTERM, output + other
    (line,) = [line for line in output.splitlines() if "stopped at step" in line]
    step = state_at_the_end(stage_of(folder) / "last")[0]
    assert f"stopped at step {step} of {2 * EPOCH} and saved" in line and 10 <= step < EPOCH
    assert "2 x cpu in 2 processes" in output
    # Only Gloo prints there.
    assert [line for line in other.splitlines() if not line.startswith("[Gloo]")] == []


def test_killed_and_continued_with_other_numbers_of_processes_it_has_the_same_bits(
    interrupted, whole, small_store, compiled_programs
):
    folder, store = interrupted[0], small_store.path
    # By one process, stopped within the second epoch.
    alone = start(folder, store, compiled_programs)
    wait_for_step(folder, EPOCH + 4, [alone])
    alone.send_signal(signal.SIGINT)
    assert ends(folder, [alone])[0][0] == 128 + signal.SIGINT
    # By two, of which one is killed; the other one ends too.
    pair = start_pair(folder, store, compiled_programs)
    wait_for_step(folder, EPOCH + 16, pair)
    pair[1].kill()
    (status, output), _ = ends(folder, pair, 60)
    assert status == 1 and "continues from step" in output
    lost = "error: another process has ended; the same commands continue from the last checkpoint"
    assert output.splitlines()[-1] == lost and "Traceback" not in output

    for number in range(2):
        (folder / f"seen.{number}").unlink()
    pair = start_pair(folder, store, compiled_programs)
    for status, output in ends(folder, pair):
        assert status == 0, output
    for which in ("last", "best"):
        there, here = (state_at_the_end(stage_of(f) / which) for f in (whole, folder))
        assert there[0] == here[0]
        jax.tree.map(np.testing.assert_array_equal, there[1], here[1])
    assert numbers(whole) == numbers(folder)
    # Every remaining example, once, in its place in its batch.
    batches = [a + b for a, b in zip(seen(folder), seen(folder, 1), strict=True)]
    assert 0 < len(batches) < EPOCH and batches == seen(whole)[-len(batches) :]

    there, here = (
        json.loads((f / "run" / "fold_0" / "evaluation.json").read_text())["rows"]
        for f in (whole, folder)
    )
    assert [r.pop("mean") for r in here] == pytest.approx(
        [r.pop("mean") for r in there], rel=1e-5, nan_ok=True
    )
    assert there == here
    assert (folder / "run" / "summary.json").exists()


def test_two_processes_that_cut_patches_on_their_devices_use_each_example_once(
    whole, small_store, compiled_programs, tmp_path, monkeypatch
):
    """Of the seven steps between two saves two dispatches take three each, the last takes one."""
    monkeypatch.setenv("DISPATCH", "3")
    folder = tmp_path / "device"
    flags = (small_store.path, compiled_programs, "--config.data.placement=device")
    flags += ("--config.train.log_every_steps=1000",)  # no dispatch goes over such a step
    for status, output in ends(folder, start_pair(folder, *flags)):
        assert status == 0, output
    assert "into device memory" in (folder / "output.0").read_text()
    batches = [a + b for a, b in zip(seen(folder), seen(folder, 1), strict=True)]
    assert len(batches) == 2 * EPOCH and batches == seen(whole)
    there, here = (state_at_the_end(stage_of(f) / "last") for f in (whole, folder))
    assert there[0] == here[0]
    jax.tree.map(np.testing.assert_array_equal, there[1], here[1])


def test_one_process_with_other_settings_is_refused_once(small_store, compiled_programs, tmp_path):
    pair = start_pair(
        tmp_path, small_store.path, compiled_programs, second=["--config.seed=7"]
    )  # fmt: skip
    (first, output), (second, other) = ends(tmp_path, pair)
    assert first == second == 1 and not (tmp_path / "run").exists()
    assert output.startswith("error: process 1 was started with other settings than process 0 (")
    assert "seed" in output and output.count("\n") == 1 and other == ""


def test_a_fold_in_use_has_the_exit_status_75(small_store, compiled_programs, tmp_path):
    with locks.hold(tmp_path / "run" / "fold_0" / "lock", "here"):
        pair = start_pair(tmp_path, small_store.path, compiled_programs)
        (first, output), (second, other) = ends(tmp_path, pair)
    assert first == second == 75
    assert "in use by" in output and other == ""


def test_waiting_for_the_other_processes_has_a_limit():
    code = (
        "from brats_jax.runtime import distributed; "
        "distributed.initialize('127.0.0.1:9', 2, 1, wait_s=0.5)"
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: 127.0.0.1:9: not all processes connected within 0 s; ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host:1", 2, None), "each of them; or --distributed"),
        ((None, None, 0), "each of them; or --distributed"),
        (("host", 2, 1), "--coordinator=host: give HOST:PORT"),
        (("host:port", 2, 1), "--coordinator=host:port: give HOST:PORT"),
        (("host:1", 2, 2), "--process_id=2: with 2 processes give 0 to 1"),
        (("host:1", 2, 1, True), "give --distributed alone"),
    ],
)
def test_contradicting_flags_are_refused(given, message):
    with pytest.raises(BratsError, match=message.replace("(", r"\(")):
        distributed.initialize(*given)


def test_a_port_in_use_is_refused():
    with socket.create_server(("", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BratsError, match=f"--coordinator={where}: Address already in use"):
            distributed.initialize(where, 2, 0)


def test_the_rows_of_all_processes_make_up_the_batch(small_store):
    plan = PatchPlan(small_store, np.arange(20, 60), patch_size=16, tumour_probability=1, seed=3)

    def batches(rows=None):
        return list(
            TrainingBatches(small_store, plan, patch_size=16, batch_size=8, steps=3, rows=rows)
        )

    parts = [batches(rows) for rows in (slice(0, 2), slice(2, 8))]
    for whole, *mine in zip(batches(), *parts, strict=True):
        for name, array in whole.items():
            np.testing.assert_array_equal(np.concatenate([m[name] for m in mine]), array)
    assert devices.local_rows(8, devices.data_mesh()) == slice(0, 8)  # all are local

    chosen = np.array([3, 4, 5, 70, 71, 72])  # the second batch is filled up
    halves = [
        whole_slice_batches(small_store, chosen, 4, rows) for rows in (slice(0, 2), slice(2, 4))
    ]
    for whole, *mine in zip(whole_slice_batches(small_store, chosen, 4), *halves, strict=True):
        for name in ("image", "label"):
            np.testing.assert_array_equal(np.concatenate([m[name] for m in mine]), whole[name])
        for name in ("valid", "index"):
            np.testing.assert_array_equal(mine[0][name], whole[name])


def test_an_error_of_communication_means_a_lost_process():
    gone = ValueError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer")
    assert distributed.is_lost_process(gone) and not distributed.is_lost_process(KeyError("image"))
