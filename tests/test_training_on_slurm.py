"""Trainings by the SLURM scripts on a real SLURM; minutes, so only with BRATS_JAX_NIGHTLY=1."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slurm_cluster import AVAILABLE, ROOT, WHY_NOT, running_cluster, wait_until

from brats_jax.runs.metrics_jsonl import read_metrics

pytestmark = [
    pytest.mark.skipif("BRATS_JAX_NIGHTLY" not in os.environ, reason="bash launch/test_slurm.sh"),
    pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT),
]

CONFIG = "tests/tiny_config.py"
FLAGS = ("--config.ssl=false", "--config.evaluation.panels=0", "--config.segment.epochs=1")
FOREVER = (*FLAGS, "--config.segment.steps_per_epoch=20000")
SHORT = (*FLAGS, "--config.segment.steps_per_epoch=30")
KILL_WAIT_S = 30


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    with running_cluster(folder, HOSTS="1", NODES="6") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def submit(cluster, small_store, compiled_programs, tmp_path_factory):
    """submit(script, folder, *flags, array=..., options=...): starts to train into the folder."""
    programs = f"--config.compilation_cache={compiled_programs}"

    def submit(script, folder, *flags, array="0", options=()):
        arguments = (folder, small_store.path, *flags, programs)
        if script != "slurm_grid.sh":
            arguments = (CONFIG, *arguments)
        options = (*options, f"--output={folder}-%a.out")
        # The tests have two devices; a node has one, as it has one GPU.
        one_device = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"
        return cluster.submit(
            script, *map(str, arguments),
            cwd=ROOT, array=array, options=options, CONFIG=CONFIG, XLA_FLAGS=one_device,
        )  # fmt: skip

    return submit


def stage(run):
    return run / "fold_0" / "segment"


def trains(run, beyond=0):
    steps = [record["step"] for record in read_metrics(stage(run) / "metrics.jsonl")]
    return max(steps, default=0) > beyond


def stopped_and_saved(log):
    return "stopped at step" in log.read_text() and "and saved" in log.read_text()


def test_scancel_saves_a_fold_a_fold_on_two_nodes_and_all_cells_of_a_grid(
    cluster, submit, tmp_path
):
    grid_flags = ("--losses=dice_ce,focal", *(f for f in FOREVER if "ssl" not in f), "--ssl=false")
    arrays = [
        submit("slurm_folds.sh", tmp_path / "fold", *FOREVER),
        submit("slurm_nodes.sh", tmp_path / "nodes", *FOREVER),
        submit("slurm_grid.sh", tmp_path / "grid", *grid_flags, array="0-1"),
    ]
    cells = [
        tmp_path / "grid" / "runs" / f"{loss}-base-labels_100-seed_0"
        for loss in ("dice_ce", "focal")
    ]
    for run in (tmp_path / "fold", tmp_path / "nodes", *cells):
        wait_until(lambda run=run: trains(run), 600)
    cluster("scancel", *arrays)
    wait_until(lambda: not cluster("squeue", "-h"), 2 * KILL_WAIT_S)
    logs = [tmp_path / "fold-0.out", tmp_path / "nodes-0.out"]
    logs += sorted((tmp_path / "grid" / "logs").glob("*.log"))
    assert len(logs) == 4 and all(map(stopped_and_saved, logs))
    records = [path.read_text() for path in (tmp_path / "grid" / "cells").glob("*.json")]
    assert len(records) == 2 and all('"stopped"' in record for record in records)


def test_at_a_real_time_limit_a_fold_saves_and_goes_on(cluster, submit, tmp_path):
    """Of three minutes; the signal comes two minutes before, by SLURM's minute."""
    array = submit("slurm_folds.sh", tmp_path / "run", *FOREVER, options=("--time=3",))
    log = tmp_path / "run-0.out"
    wait_until(lambda: log.exists() and stopped_and_saved(log), 300)
    step = max(r["step"] for r in read_metrics(stage(tmp_path / "run") / "metrics.jsonl"))
    cluster.wait_for_restart(f"{array}_0", lambda: trains(tmp_path / "run", step), 300)
    assert "continues from step" in log.read_text()
    cluster("scancel", array)
    wait_until(lambda: not cluster("squeue", "-h"), 2 * KILL_WAIT_S)


def test_if_a_process_is_killed_srun_ends_the_first_one_long_before_its_patience(
    cluster, submit, tmp_path
):
    run = tmp_path / "run"
    array = submit("slurm_nodes.sh", run, *FOREVER)
    wait_until(lambda: trains(run), 600)
    processes = processes_of(str(run))
    assert set(processes) == {"0", "1"}
    os.kill(processes["1"], signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: not cluster("squeue", "-h"), 60)
    assert time.monotonic() - began < KILL_WAIT_S / 2
    assert cluster.state(f"{array}_0") == "FAILED"


def processes_of(run):
    """SLURM_PROCID -> process id of the trainings into a run folder."""
    found = {}
    for entry in os.listdir("/proc"):
        try:
            command = Path(f"/proc/{entry}/cmdline").read_text().split("\0")
            environment = Path(f"/proc/{entry}/environ").read_text().split("\0")
        except OSError:
            continue
        if "brats_jax.main" in command and f"--workdir={run}" in command:
            numbers = [v.partition("=")[2] for v in environment if v.startswith("SLURM_PROCID=")]
            if numbers and "srun" not in command[0]:
                found[numbers[0]] = int(entry)
    return found


def test_two_nodes_train_to_the_bits_of_one_process_with_two_devices(
    cluster, submit, small_store, compiled_programs, tmp_path
):
    submit("slurm_nodes.sh", tmp_path / "two", *SHORT)
    given = [f"--config={CONFIG}", f"--workdir={tmp_path / 'one'}", "--config.folds=0", *SHORT]
    given += [f"--config.data.store={small_store.path}"]
    given += [f"--config.compilation_cache={compiled_programs}"]
    command = [sys.executable, "-m", "brats_jax.main", *given]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    wait_until(lambda: not cluster("squeue", "-h"), 600)
    one, two = (
        (tmp_path / name / "fold_0" / "tally_segment.npz").read_bytes() for name in ("one", "two")
    )
    assert one == two
