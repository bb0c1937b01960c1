"""The log of a training stage: metrics.jsonl, TensorBoard, trackers and the progress bar."""

import json
from typing import Any

from tensorboardX import SummaryWriter

from brats_jax.runs.folder import StageFolder
from brats_jax.runs.metrics_jsonl import read_metrics
from brats_jax.runtime import distributed
from brats_jax.runtime.console import Rate, print_line, progress_bar
from brats_jax.runtime.files import write_text
from brats_jax.training.tracking import StageTracking


class MetricsLog:
    """Logs the numbers of one stage, also across restarts; only in the main process.

    metrics.jsonl has one JSON object a line: `event` ('step' within an epoch, 'train' and
    'validation' at its end), `step`, `epoch` and the numbers. A resumed stage first drops the
    lines that it will write again.

    Args:
      folder: the stage's folder.
      title: label of the progress bar.
      total_steps, first_step: length of the stage, and the step it starts from.
      validated_step: last step of the last validated epoch.
      tracking: the trackers that get the same numbers; default: none.
    """

    def __init__(
        self,
        folder: StageFolder,
        title: str,
        total_steps: int,
        first_step: int,
        validated_step: int,
        tracking: StageTracking | None = None,
    ) -> None:
        self._tracking = tracking or StageTracking([])
        self._writes = distributed.is_main()
        if not self._writes:
            return
        folder.path.mkdir(parents=True, exist_ok=True)
        self._path = folder.metrics_jsonl
        # By event, the last step whose record is not written again.
        last = {"step": first_step, "train": validated_step, "validation": validated_step}
        kept = [r for r in read_metrics(self._path) if r["step"] <= last.get(r["event"], -1)]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        self._writer = SummaryWriter(str(folder.tensorboard), purge_step=validated_step + 1)
        self._bar = progress_bar(total_steps, title, "step", first_step)
        self._title = title
        self._total = total_steps
        self._rate = Rate(total_steps)

    def step(self, step: int) -> None:
        """Moves the progress bar to `step`."""
        if self._writes:
            self._bar.update(step - self._bar.n)
            self._rate.update(step)

    def write(self, event: str, step: int, epoch: int, values: dict[str, Any]) -> None:
        """Appends one record to metrics.jsonl and its scalars to TensorBoard and trackers."""
        if not self._writes:
            return
        with self._path.open("a") as file:
            record = {"event": event, "step": step, "epoch": epoch, **values}
            file.write(json.dumps(record) + "\n")
        for name, value in values.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(f"{event}/{name}", value, step)
        self._writer.flush()
        self._tracking.write(event, step, epoch, values)

    def epoch(self, step: int, text: str) -> None:
        """Prints the result of an epoch and the time left, above the progress bar."""
        if not self._writes:
            return
        left = "  0:00 left" if step == self._total else self._rate.time_left()
        print_line(f"{self._title}: step {step}/{self._total}  {text}{left}")

    def close(self) -> None:
        """Closes the progress bar and the event file."""
        if not self._writes:
            return
        self._bar.close()
        self._writer.close()
