"""Trackers by a fake, and by their own libraries: extras, skipped where they are not installed."""

import json
import math
import os
import socket
import subprocess
import sys
import time
import types
import urllib.request

import pytest

from brats_jax.runs.folder import StageFolder
from brats_jax.training import tracking
from brats_jax.training.tracker_adapters import FINISHED, STOPPED, Mlflow, Record, Start
from brats_jax.training.tracking import Tracking

FULL_MLFLOW = tracking.is_installed("mlflow") and tracking.is_installed("sqlalchemy")


def fake_mlflow(monkeypatch, server):
    """Installs a module `mlflow` whose client calls `server`."""
    mlflow, entities = types.ModuleType("mlflow"), types.ModuleType("mlflow.entities")
    mlflow.MlflowClient = lambda: server
    entities.Metric = lambda key, value, timestamp, step: (key, value, step)
    entities.Param = lambda key, value: (key, value)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)


class FakeServer:
    """MLflow's client on a dictionary; another process makes the experiment at the same time."""

    def __init__(self):
        self.runs, self.experiment, self.status = [], None, []

    def get_experiment_by_name(self, name):
        return self.experiment

    def create_experiment(self, name):
        self.experiment = types.SimpleNamespace(experiment_id="7")
        raise RuntimeError("RESOURCE_ALREADY_EXISTS")

    def search_runs(self, experiments, condition):
        assert experiments == ["7"]
        return [run for run in self.runs if condition == f"tags.`brats_jax.id` = '{run.id}'"]

    def create_run(self, experiment, tags, run_name):
        data = types.SimpleNamespace(params={}, metrics={})
        info = types.SimpleNamespace(run_id=f"run {len(self.runs)}", name=run_name)
        run = types.SimpleNamespace(id=tags["brats_jax.id"], data=data, info=info, history=[])
        self.runs.append(run)
        return run

    def update_run(self, run_id, status):
        self.status.append(status)

    def set_terminated(self, run_id, status):
        self.status.append(status)

    def get_metric_history(self, run_id, key):
        (run,) = [run for run in self.runs if run.info.run_id == run_id]
        return [types.SimpleNamespace(step=s) for name, _, s in run.history if name == key]

    def log_batch(self, run_id, metrics=(), params=()):
        (run,) = [run for run in self.runs if run.info.run_id == run_id]
        assert len(metrics) <= 1000 and len(params) <= 100
        assert not {name for name, _ in params} & {*run.data.params}
        run.data.params.update(params)
        run.history += metrics
        run.data.metrics.update({name: value for name, value, _ in metrics})


def test_mlflow_continues_its_run_and_repeats_no_step(monkeypatch):
    server = FakeServer()
    fake_mlflow(monkeypatch, server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host/")
    params = {f"p{i}": i for i in range(150)}
    for steps, how in (((1, 2, 3), STOPPED), ((3, 4), FINISHED)):
        adapter = Mlflow()
        start = Start("a1", "ssl fold 0 segment", "ssl", "fold_0", "segment", params)
        assert adapter.open(start) == "http://host/#/experiments/7/runs/run 0"
        adapter.log([Record(step, {"loss": 1 / step, "bad": math.nan}) for step in steps])
        adapter.results({"best": 0.5})
        adapter.close(how)
    (run,) = server.runs
    assert [s for name, _, s in run.history if name == "loss"] == [1, 2, 3, 4]
    assert len(run.data.params) == 150 and set(run.data.metrics) == {"loss", "best"}
    assert server.status == ["KILLED", "RUNNING", "FINISHED"]


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Starts an MLflow server on the loopback; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}",
            "--workers=1", f"--backend-store-uri=sqlite:///{tmp_path}/mlflow.db",
            f"--default-artifact-root={tmp_path}/artifacts",
        ],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=1)
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    yield address
    os.killpg(process.pid, 15)
    process.wait()


@pytest.mark.skipif(not FULL_MLFLOW, reason="needs pip install mlflow, with its server")
def test_mlflow_has_each_step_once_after_a_stop(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "END_S", 120.0)
    folder = StageFolder(tmp_path / "ssl" / "fold_0" / "segment")
    for steps in (range(1, 4), range(3, 6)):  # step 3 is logged again after the stop
        trackers = Tracking(("mlflow",), "ssl", {"train.batch_size": 16})
        with trackers, trackers.stage(folder, "fold 0 segment") as tracked:
            for step in steps:
                tracked.write("train", step, 1, {"loss": 1 / step})
            tracked.results("result", {"best": 0.5})
    from mlflow import MlflowClient

    client = MlflowClient(server)
    (run,) = client.search_runs([client.get_experiment_by_name("brats_jax").experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(n, 1 / n) for n in range(1, 6)]
    assert (run.info.run_name, run.info.status) == ("ssl fold 0 segment", "FINISHED")
    assert run.data.params == {"train.batch_size": "16"}
    assert run.data.metrics["result/best"] == 0.5


@pytest.mark.skipif(not tracking.is_installed("wandb"), reason="needs pip install wandb")
def test_wandb_keeps_an_offline_run_in_the_stage_folder_without_credentials(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "END_S", 120.0)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    folder = StageFolder(tmp_path / "ssl" / "fold_0" / "segment")
    trackers = Tracking(("wandb",), "ssl", {"train.batch_size": 16})
    with trackers, trackers.stage(folder, "fold 0 segment") as tracked:
        tracked.write("train", 1, 1, {"loss": 0.5})
    identity = json.loads(folder.tracking_json.read_text())["id"]
    (run,) = (folder.path / "wandb").glob(f"offline-run-*-{identity}")
    assert b"train/loss" in (run / f"run-{identity}.wandb").read_bytes()
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert not any(b"0123456789" in path.read_bytes() for path in files)
