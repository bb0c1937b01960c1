"""What a training stage tells: metrics.jsonl, TensorBoard events, and the terminal."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from tqdm import tqdm

from brats_jax import processes
from brats_jax.files import write_text


def say(text: str) -> None:
    """Prints a line, above a progress bar if there is one; of several processes the first."""
    if processes.is_first():
        tqdm.write(text)
        sys.stdout.flush()


def bar(total: int, title: str, unit: str, first: int = 0) -> tqdm:
    """A progress bar with rate and time left; nothing where the output is not a terminal."""
    return tqdm(
        total=total,
        initial=first,
        desc=title,
        unit=unit,
        dynamic_ncols=True,
        # A log file wants lines, not a bar.
        disable=not sys.stderr.isatty(),
    )


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
