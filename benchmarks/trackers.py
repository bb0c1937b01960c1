"""Cost of an experiment tracker that hangs: its server accepts connections and never answers.

    python benchmarks/trackers.py              # needs the extras wandb and mlflow, or one of them
    python benchmarks/trackers.py --turns=5

Trains a small pretraining on the phantom, in turns without trackers and with all that are
installed. Prints the time that the training loop spends in calls for trackers, as a share of an
epoch; the processor time of the training's process in both; and the seconds that the end of the run
waits. The trackers' own processes are not part of it: they run beside the training, at a lower
priority.
"""

import argparse
import os
import socket
import tempfile
import threading
import time
from pathlib import Path

from absl import logging

from benchmarks import measure
from benchmarks.measure import Spread
from brats_jax.data.store.prepare import prepare
from brats_jax.experiments import experiment
from brats_jax.runs.settings import TRACKERS
from brats_jax.training import tracking
from brats_jax.training.tracking import StageTracking, Tracking
from configs import base

WIDTH, PATCH, BATCH, STEPS, EPOCHS = 16, 64, 8, 50, 3


def silent_server() -> str:
    """Starts a server that never answers; its address."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    kept = []

    def accept() -> None:
        while True:
            kept.append(listening.accept())  # kept open

    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


class Clock:
    """Seconds in calls for trackers, number of calls, and seconds at the end of the run."""

    def __init__(self) -> None:
        self.calls, self.seconds, self.end = 0, 0.0, 0.0
        write, leave = StageTracking.write, Tracking.__exit__

        def timed_write(stage: StageTracking, *values: object) -> None:
            begin = time.perf_counter()
            write(stage, *values)  # type: ignore[arg-type]
            self.calls, self.seconds = self.calls + 1, self.seconds + time.perf_counter() - begin

        def timed_leave(trackers: Tracking, *error: object) -> None:
            begin = time.perf_counter()
            leave(trackers, *error)  # type: ignore[arg-type]
            self.end = time.perf_counter() - begin

        StageTracking.write = timed_write  # type: ignore[method-assign]
        Tracking.__exit__ = timed_leave  # type: ignore[method-assign,assignment]


def train(store: Path, workdir: Path, trackers: str) -> tuple[float, float]:
    """Trains; (seconds, processor seconds of this process) for each epoch after the first."""
    config = base.get_config()
    config.trackers, config.folds = trackers, (0,)
    config.data.store, config.data.num_folds, config.data.patch_size = str(store), 3, PATCH
    config.model.width, config.train.batch_size, config.train.log_every_steps = WIDTH, BATCH, 5
    config.pretrain.epochs, config.pretrain.steps_per_epoch = EPOCHS, STEPS
    config.evaluation.panels = 0
    times: list[tuple[float, float]] = []
    original = StageTracking.write

    def write(stage: StageTracking, event: str, *values: object) -> None:
        original(stage, event, *values)  # type: ignore[arg-type]
        if event == "validation":
            times.append((time.perf_counter(), time.process_time()))

    StageTracking.write = write  # type: ignore[method-assign,assignment]
    try:
        experiment.run(config, workdir, "pretrain")
    finally:
        StageTracking.write = original  # type: ignore[method-assign]
    (wall, cpu), (last_wall, last_cpu) = times[0], times[-1]
    return (last_wall - wall) / (EPOCHS - 1), (last_cpu - cpu) / (EPOCHS - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    names = [name for name in TRACKERS if tracking.is_installed(name)]
    if not names:
        parser.error("neither wandb nor mlflow is installed")
    address = silent_server()
    os.environ |= {
        "MLFLOW_TRACKING_URI": address,
        "WANDB_BASE_URL": address,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_MODE": "online",
    }
    clock = Clock()
    without, hanging, calls, ends = [], [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        store = Path(temporary, "store")
        prepare("phantom", store, patients=8, shape=(16, 240, 240))
        for turn in range(arguments.turns):
            without.append(train(store, Path(temporary, f"without_{turn}"), "none"))
            clock.calls, clock.seconds = 0, 0.0
            hanging.append(train(store, Path(temporary, f"hanging_{turn}"), ",".join(names)))
            calls.append(clock.seconds / EPOCHS / hanging[-1][0])
            ends.append(clock.end)
    print(f"trackers that hang: {', '.join(names)}; {STEPS} steps and a validation an epoch")
    print(f"calls in the loop: {Spread.of(calls).show(100, 4)} % of an epoch")
    for title, pairs in (("without", without), ("hanging", hanging)):
        wall, cpu = (Spread.of([pair[i] for pair in pairs]) for i in (0, 1))
        print(f"{title}: epoch {wall.show(1, 2)} s, processor time {cpu.show(1, 2)} s")
    ratio = Spread.of([b[1] / a[1] for a, b in zip(without, hanging, strict=True)])
    print(f"processor time, hanging / without: {ratio.show(1, 4)}")
    print(
        f"wait at the end of a run: {Spread.of(ends).show(1, 1)} s (at most {tracking.END_S:.0f})"
    )
    print(measure.where())


if __name__ == "__main__":
    main()
