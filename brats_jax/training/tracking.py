"""Experiment trackers beside metrics.jsonl: W&B and MLflow, which can neither stop nor slow a run.

Each stage of a fold is a tracker run, written by a process of its own (`tracker_process`). Numbers
pass through a bounded queue; what does not fit is dropped, and metrics.jsonl has it.
"""

import contextlib
import importlib.util
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from brats_jax import about
from brats_jax.errors import BratsError
from brats_jax.runs.documents import Evaluation, Score
from brats_jax.runs.folder import FoldFolder, StageFolder
from brats_jax.runs.settings import AUTO, Settings, tracker_names
from brats_jax.runs.settings_comparison import flatten, without_paths
from brats_jax.runs.tracking_id import tracking_id
from brats_jax.runtime import distributed
from brats_jax.runtime.console import print_line
from brats_jax.runtime.document import read_document
from brats_jax.runtime.signals import Interrupted
from brats_jax.training.tracker_adapters import FAILED, FINISHED, STOPPED, Start

# The variable that switches a tracker on, unless the setting names it.
SWITCHES = {"wandb": "WANDB_PROJECT", "mlflow": "MLFLOW_TRACKING_URI"}
NAMES_OF_PATIENTS = ("data.training_only",)  # settings that stay on this machine
MOST_WAITING = 1000  # messages; a stage of 30 epochs writes some thousands, over hours
END_S = 15.0  # at the end of a run, for what is left
STOP_S = 5.0  # after SIGTERM: a cluster kills soon


def active_trackers(setting: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The trackers that the setting or the environment switches on.

    Args:
      setting: config.trackers.
      environment: os.environ.
    """
    if setting != AUTO:
        return tracker_names(setting)
    off = ["wandb"] if environment.get("WANDB_MODE") == "disabled" else []
    return tuple(n for n, switch in SWITCHES.items() if environment.get(switch) and n not in off)


def is_installed(name: str) -> bool:
    """Whether a tracker's library is installed; a folder ./wandb of results does not count."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def _environment(folder: Path) -> dict[str, str]:
    """The environment of a tracker's process, with `folder` for its temporary files.

    The folder also replaces a missing home, as in many containers: neither library can be imported
    without one.
    """
    environment = {**os.environ, "TMPDIR": str(folder)}
    try:
        Path.home()
    except RuntimeError:
        environment["HOME"] = str(folder)
    return environment


class Tracker:
    """One stage in one tracker: a bounded queue of messages, and the process that sends them.

    Args:
      name: 'wandb' or 'mlflow'.
      title: of the stage, for messages.
      start: the run to open; the first message to the process.
      before: an earlier tracker of the same stage in this library; it has to end before this one
        opens the same run.
    """

    def __init__(self, name: str, title: str, start: Start, before: "Tracker | None") -> None:
        self.name, self._title, self._before = name, title, before
        self._waiting: queue.Queue[str] = queue.Queue(MOST_WAITING)
        self._offered = self._delivered = 0
        self._end, self._ended = STOPPED, threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._folder: Path | None = None
        self._started = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._waiting.put(json.dumps(asdict(start)))
        threading.Thread(target=self._work, name=f"{name} tracker", daemon=True).start()

    def put(self, message: Mapping[str, Any]) -> None:
        """Passes a message on, or drops it; never waits."""
        self._offered += 1
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(json.dumps(message))

    def end(self, how: str) -> None:
        """Starts the end of the tracker's run: FINISHED, STOPPED or FAILED; does not wait."""
        self._end = how
        self._ended.set()

    def wait(self, until: float) -> None:
        """Waits until the process has ended; kills it if it has not by then.

        Prints one line if messages were lost.

        Args:
          until: the end of the waiting, a time of `time.monotonic()`.
        """
        self._started.wait(max(0.0, until - time.monotonic()))
        if self._process is not None:
            self._wait_for(self._process, until)
        if self._folder is not None:  # of a process that could not remove it
            shutil.rmtree(self._folder, ignore_errors=True)

    def _wait_for(self, process: subprocess.Popen[str], until: float) -> None:
        try:
            process.wait(max(0.0, until - time.monotonic()))
            late = ""
        except subprocess.TimeoutExpired:
            late = " did not answer in time"
            process.kill()
            process.wait()
        if self._listener.is_alive():  # on a busy machine it may not have started yet
            self._listener.join(1.0)
        if lost := self._offered - self._delivered:
            kept = f"{lost} of {self._offered} records did not reach it; metrics.jsonl has them all"
        elif late:
            kept = "the end of its run did not reach it"
        else:
            return
        print_line(f"note: {self._title}: {self.name}{late}: {kept}")

    def _work(self) -> None:
        if self._before is not None:
            self._before.wait(time.monotonic() + END_S)
        module = "brats_jax.training.tracker_process"
        try:
            folder = self._folder = Path(tempfile.mkdtemp(prefix="brats_jax-"))
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", module, self.name, str(folder)],
                env=_environment(folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C is for the training
            )
        except OSError as error:
            print_line(f"note: {self._title}: not logged to {self.name}: {error.strerror}")
            return
        finally:
            self._started.set()
        self._listener.start()
        assert process.stdin is not None
        with contextlib.suppress(OSError), process.stdin as pipe:  # an error: it has ended
            while not (self._ended.is_set() and self._waiting.empty()):
                with contextlib.suppress(queue.Empty):
                    pipe.write(self._waiting.get(timeout=0.2) + "\n")
                    pipe.flush()
            pipe.write(json.dumps({"end": self._end}) + "\n")

    def _listen(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout:
                answer = json.loads(line)
                self._delivered += answer.get("delivered", 0)
                if answer.get("address"):
                    print_line(f"{self._title}: {self.name} has it at {answer['address']}")
                if "error" in answer:
                    print_line(
                        f"note: {self._title}: {self.name}: {answer['error']}; the training goes "
                        "on, and metrics.jsonl has all numbers"
                    )


class StageTracking:
    """The trackers of one stage; none in processes other than the main one."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self._trackers = trackers

    def write(self, event: str, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """Passes on the numbers of a record of metrics.jsonl, under TensorBoard's names."""
        if not self._trackers:
            return
        numbers = _numbers(event, values)
        for tracker in self._trackers:
            tracker.put({"step": step, "values": {**numbers, "epoch": epoch}})

    def results(self, kind: str, values: Mapping[str, Any]) -> None:
        """Passes on results of the whole stage, as KIND/NAME."""
        for tracker in self._trackers:
            tracker.put({"results": _numbers(kind, values)})

    def end(self, how: str) -> None:
        """Starts the end of all of them."""
        for tracker in self._trackers:
            tracker.end(how)


def _scores(rows: Iterable[Score], stage: str) -> dict[str, float]:
    """The scores of a stage, named by units, metric, class and convention."""
    return {
        "_".join(filter(None, (f"{row.over}/{row.metric}", row.of, row.convention)))
        .replace("NCR/NET", "NCR")
        .replace(" ", "_"): row.mean
        for row in rows
        if row.stage == stage and row.mean is not None
    }


def _numbers(kind: str, values: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"{kind}/{name}": value
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


class Tracking:
    """The trackers of a run, a context manager: its end waits a limited time for the last messages.

    Args:
      names: of the trackers.
      group: the run folder's name; its path stays here.
      params: settings by dotted name.
    """

    def __init__(
        self, names: tuple[str, ...] = (), group: str = "", params: Mapping[str, Any] | None = None
    ) -> None:
        self._names, self._group, self._params = names, group, dict(params or {})
        self._begun: dict[tuple[str, Path], Tracker] = {}

    @classmethod
    def of(cls, settings: Settings, workdir: Path) -> Self:
        """The trackers that the settings and the environment switch on; prints a line on each."""
        names = active_trackers(settings.trackers, os.environ) if distributed.is_main() else ()
        found = []
        for name in names:
            reason = f"{SWITCHES[name]} is set" if settings.trackers == AUTO else "as asked for"
            if is_installed(name):
                found.append(name)
                print_line(
                    f"{workdir}: also logs to {name}: {reason} (--config.trackers=none: no tracker)"
                )
            else:
                print_line(
                    f"note: {workdir}: not logged to {name}: {reason}, but it is not installed; "
                    f"pip install 'brats_jax[{name}]'"
                )
        params = flatten({"version": about.__version__, **without_paths(settings.document)})
        params |= {name: "" for name in NAMES_OF_PATIENTS if name in params}
        return cls(tuple(found), workdir.resolve().name, params)

    @staticmethod
    def check(settings: Settings) -> None:
        """Refuses trackers that the setting names and that cannot work.

        Raises:
          BratsError: one is not installed, or has no address.
        """
        for name in tracker_names(settings.trackers):
            if not is_installed(name):
                raise BratsError(
                    f"config.trackers={settings.trackers}: {name} is not installed; "
                    f"pip install 'brats_jax[{name}]', or --config.trackers=none"
                )
            if name == "mlflow" and not os.environ.get(SWITCHES[name]):
                raise BratsError(
                    f"config.trackers={settings.trackers}: {SWITCHES[name]} is not set; set it to "
                    "the address of the server, such as http://127.0.0.1:5000"
                )

    def test_results(self, folder: FoldFolder, stages: Iterable[str]) -> None:
        """Adds the scores of evaluation.json to the tracker runs of a fold's stages."""
        if not self._names:
            return
        rows = read_document(folder.evaluation_json, Evaluation).rows
        for name in stages:
            with self.stage(folder.stage(name), f"fold {folder.number} {name}") as stage:
                stage.results("test", _scores(rows, name))

    @contextlib.contextmanager
    def stage(self, folder: StageFolder, title: str) -> Iterator[StageTracking]:
        """The trackers of one stage; its run ends as the body does.

        Args:
          folder: the stage's folder.
          title: 'fold K STAGE'.
        """
        stage = StageTracking([] if not self._names else self._begin(folder, title))
        how = FAILED
        try:
            yield stage
            how = FINISHED
        except (Interrupted, KeyboardInterrupt):
            how = STOPPED
            raise
        finally:
            stage.end(how)

    def _begin(self, folder: StageFolder, title: str) -> list[Tracker]:
        folder.path.mkdir(parents=True, exist_ok=True)
        start = Start(
            id=tracking_id(folder),
            name=f"{self._group} {title}",
            group=self._group,
            fold=folder.path.parent.name,
            stage=folder.name,
            params=self._params,
            folder=str(folder.path.absolute()),
        )
        for name in self._names:
            before = self._begun.get((name, folder.path))
            self._begun[name, folder.path] = Tracker(name, title, start, before)
        return [self._begun[name, folder.path] for name in self._names]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        until = time.monotonic() + (END_S if kind is None else STOP_S)
        for tracker in self._begun.values():
            tracker.wait(until)
