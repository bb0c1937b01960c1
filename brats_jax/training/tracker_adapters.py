"""Weights & Biases and MLflow behind one protocol; used by `tracker_process` alone.

Only here are the two libraries imported, and only when their tracker is on.
"""

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"  # how a stage ends
_MOST_PARAMS, _MOST_METRICS = 100, 1000  # of MLflow's interface, in one request
_ID_TAG = "brats_jax.id"
_MLFLOW_STATUS = {FINISHED: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}
# Defaults for variables that the user does not set. MLflow's own number of retries would delay the
# end of the process by minutes.
_MLFLOW_VARIABLES = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_LONGEST_PARAM = 500  # characters that every version of MLflow takes


@dataclass(frozen=True)
class Start:
    """The first message to a tracker: the run to open.

    Attributes:
      id: of the tracker run, the same after a stop; see `runs.tracking_id`.
      name: of the tracker run: the run folder's name, the fold and the stage.
      group: the run folder's name.
      fold, stage: as in the run folder.
      params: settings by dotted name.
      folder: of the stage, for files that a tracker keeps.
    """

    id: str
    name: str
    group: str
    fold: str
    stage: str
    params: dict[str, Any] = field(default_factory=dict)
    folder: str = ""


@dataclass(frozen=True)
class Record:
    """Numbers of one step, by name."""

    step: int
    values: dict[str, float]


class Adapter(Protocol):
    """A tracker's run. Any method may raise anything, and may be called again after that."""

    def open(self, start: Start) -> str:
        """Makes the tracker run, or finds the one of `start.id`; returns its address, or ''."""

    def log(self, records: Sequence[Record]) -> None:
        """Adds numbers; those that the run has already may be given again after a stop."""

    def results(self, values: Mapping[str, float]) -> None:
        """Sets results of the whole run."""

    def close(self, how: str) -> None:
        """Ends the run as FINISHED, STOPPED (to be continued) or FAILED, and sends what is left."""


class Wandb:
    """Weights & Biases, https://docs.wandb.ai; its environment variables keep their meaning."""

    def open(self, start: Start) -> str:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        # Not the command line, the host and the address of a git repository of this process.
        settings = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_meta=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "brats_jax",
            id=start.id,
            resume="allow",
            name=start.name,
            group=start.group,
            job_type=start.stage,
            config={**start.params, "fold": start.fold, "stage": start.stage},
            dir=None if os.environ.get("WANDB_DIR") else start.folder,
            settings=settings,
        )
        return str(getattr(self._run, "url", None) or "")

    def log(self, records: Sequence[Record]) -> None:
        for record in records:
            # A step that the run is past already is left out by W&B: its numbers are the same.
            self._run.log(record.values, step=record.step)

    def results(self, values: Mapping[str, float]) -> None:
        self._run.summary.update(dict(values))

    def close(self, how: str) -> None:
        if how == STOPPED:
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if how == FINISHED else 1)


class Mlflow:
    """MLflow's client, https://mlflow.org/docs/latest/api_reference."""

    def open(self, start: Start) -> str:
        for name, value in _MLFLOW_VARIABLES.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._client = client = MlflowClient()
        experiment = self._experiment()
        found = client.search_runs([experiment], f"tags.`{_ID_TAG}` = '{start.id}'")
        # By metric, the last step that the run has: MLflow would keep a step twice.
        self._last_steps: dict[str, int] = {}
        if found:
            self._id = found[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            for key in found[0].data.metrics:
                steps = [metric.step for metric in client.get_metric_history(self._id, key)]
                self._last_steps[key] = max(steps, default=-1)
        else:
            tags = {"run": start.group, "fold": start.fold, "stage": start.stage}
            tags = {_ID_TAG: start.id, **{f"brats_jax.{n}": v for n, v in tags.items()}}
            self._id = client.create_run(experiment, tags=tags, run_name=start.name).info.run_id
        self._log_params(start.params, found[0].data.params if found else {})
        address = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
        return f"{address}/#/experiments/{experiment}/runs/{self._id}"

    def _experiment(self) -> str:
        """The id of the experiment, which is made if it is not there."""
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "brats_jax"
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name)
            except Exception:
                # Another fold has made it meanwhile.
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return found.experiment_id

    def _log_params(self, params: Mapping[str, Any], there: Mapping[str, str]) -> None:
        """Logs what the run lacks: a parameter can be set once."""
        from mlflow.entities import Param

        new = [
            Param(name, str(value)[:_LONGEST_PARAM])
            for name, value in params.items()
            if name not in there
        ]
        for first in range(0, len(new), _MOST_PARAMS):
            self._client.log_batch(self._id, params=new[first : first + _MOST_PARAMS])

    def log(self, records: Sequence[Record]) -> None:
        now = int(1000 * time.time())
        numbers = [
            (name, value, now, record.step)
            for record in records
            for name, value in record.values.items()
            if math.isfinite(value) and record.step > self._last_steps.get(name, -1)
        ]
        self._send(numbers)

    def results(self, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        self._send([(name, v, now, 0) for name, v in values.items() if math.isfinite(v)])

    def _send(self, numbers: list[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric

        for first in range(0, len(numbers), _MOST_METRICS):
            part = numbers[first : first + _MOST_METRICS]
            self._client.log_batch(self._id, metrics=[Metric(*number) for number in part])
            for name, _, _, step in part:
                self._last_steps[name] = max(step, self._last_steps.get(name, -1))

    def close(self, how: str) -> None:
        self._client.set_terminated(self._id, _MLFLOW_STATUS[how])


ADAPTERS: dict[str, type[Adapter]] = {"wandb": Wandb, "mlflow": Mlflow}
