"""What a training stage tells: metrics.jsonl, TensorBoard events, and the terminal."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, Self

from tensorboardX import SummaryWriter
from tqdm import tqdm

from brats_jax.runtime import distributed
from brats_jax.runtime.files import write_text
from brats_jax.runtime.signals import leave_quietly

FIRST_LINE_S = 60.0  # until a log file hears how far something is


def say(text: str) -> None:
    """Prints a line, above a progress bar if there is one; of several processes the first."""
    if distributed.is_first():
        try:
            tqdm.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            leave_quietly()


class Bar(Protocol):
    """What shows how far something is."""

    n: int

    def update(self, n: int = 1) -> Any:
        """So many more are done."""

    def close(self) -> None:
        """Ends it."""

    def __enter__(self) -> Self:
        """For `with`, which closes it."""

    def __exit__(self, *error: Any) -> Any:
        """Closes it."""


def bar(total: int, title: str, unit: str, first: int = 0) -> Bar:
    """A progress bar with rate and time left; for a log file, now and then a line."""
    if not sys.stderr.isatty():
        return _Lines(total, title, unit, first)
    return tqdm(total=total, initial=first, desc=title, unit=unit, dynamic_ncols=True)


class _Lines:
    """How far it is, after a minute and then whenever half as much time again has passed."""

    def __init__(self, total: int, title: str, unit: str, first: int) -> None:
        self.n, self._first, self._total = first, first, total
        self._title, self._unit = title, unit
        self._start, self._next = time.monotonic(), FIRST_LINE_S

    def update(self, n: int = 1) -> None:
        self.n += n
        elapsed = time.monotonic() - self._start
        if elapsed < self._next or not self._first < self.n < self._total:
            return
        self._next = 1.5 * elapsed
        left = elapsed / (self.n - self._first) * (self._total - self.n)
        say(f"{self._title}: {self._unit} {self.n}/{self._total}  {clock(left)} left")

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        pass


@contextlib.contextmanager
def told_if_slow(text: str, after_s: float = 5.0) -> Iterator[None]:
    """Says `text` if what is done within takes longer than that."""
    timer = threading.Timer(after_s, say, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class ProgressLog:
    """Writes the numbers of one stage, and continues them after a restart.

    metrics.jsonl has one JSON object a line with `event` ('step' within an epoch,
    'train' and 'validation' at its end), `step`, `epoch` and numbers. Lines that a
    resumed run is about to write again are dropped.

    Args:
      directory: the stage's folder.
      title: shown beside the progress bar.
      total_steps, first_step: extent of the run, and where it (re)starts.
      validated_step: the last step whose epoch was closed with a validation.
    """

    def __init__(
        self,
        directory: Path,
        title: str,
        total_steps: int,
        first_step: int,
        validated_step: int,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "metrics.jsonl"
        known = {"step": first_step, "train": validated_step, "validation": validated_step}
        kept = [r for r in read_metrics(self._path) if r["step"] <= known.get(r["event"], -1)]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=validated_step + 1)
        self._bar = bar(total_steps, title, "step", first_step)
        self._title = title
        self._total = total_steps
        self._first = first_step
        self._start = time.monotonic()

    def step(self, step: int) -> None:
        """Moves the bar."""
        self._bar.update(step - self._bar.n)

    def write(self, event: str, step: int, epoch: int, values: dict[str, Any]) -> None:
        """Appends one line of numbers, and the same to TensorBoard."""
        with self._path.open("a") as file:
            record = {"event": event, "step": step, "epoch": epoch, **values}
            file.write(json.dumps(record) + "\n")
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"{event}/{name}", value, step)
        self._writer.flush()

    def epoch(self, step: int, text: str) -> None:
        """Says how an epoch went, and the time left: a line, above the bar if there is one."""
        elapsed = time.monotonic() - self._start
        left = elapsed / max(1, step - self._first) * (self._total - step)
        say(f"{self._title}: step {step}/{self._total}  {text}  {clock(left)} left")

    def close(self) -> None:
        """Ends the bar and the event file."""
        self._bar.close()
        self._writer.close()


class SilentLog(ProgressLog):
    """The log of a process that is not the first."""

    def __init__(self) -> None:
        pass

    def step(self, step: int) -> None:
        """Nothing."""

    def write(self, event: str, step: int, epoch: int, values: dict[str, Any]) -> None:
        """Nothing."""

    def epoch(self, step: int, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics.jsonl; a line cut off by a kill, or damaged, is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"event", "step"} <= set(record):
            records.append(record)
    return records


def clock(seconds: float) -> str:
    """1:05, or 2:03:04."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
