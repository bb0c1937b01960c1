"""Seconds of each part of an epoch in the program's own training loop, and of the paper's grid.

    python benchmarks/epoch.py --peer_python=TORCH_VENV/bin/python # the phantom, a few steps
    python benchmarks/epoch.py --steps=0 --placement=device        # a whole pass, e.g. on a GPU
    python benchmarks/epoch.py --store=STORE --steps=0             # the slices of a prepared store

Trains each stage with configs/base.py on tumour slices, with the last patient for validation and
the others for training. Prints the median over all epochs but the first, which compiles. After
each of our epochs the peer runs an epoch with the same numbers of steps and validated slices
(peers/torch_epoch.py: a DataLoader over the same slices in Kaggle's file format).

"Waiting for data" is the time in which the devices were idle while the loop waited for its next
batch; a thread records when each dispatch ends. The time of the same steps on a batch in device
memory is printed as well; the difference includes the cost of copying.

These numbers give a projection of the paper's 35 trainings: 5 pretrainings and 30 segmentations of
30 epochs on the 24,422 tumour slices of BraTS 2020. In each fold 68 % of the slices train and 17 %
validate; the test set of 15 % is evaluated once per training. A training also has a start: all of
its time outside of epochs. Compilation counts once per stage, because compiled programs are cached
on disk. Imports are excluded (start.py --imports).
"""

import argparse
import itertools
import os
import runpy
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from benchmarks import measure
from benchmarks.epoch_clock import Clock, Compiling, timed_stage
from benchmarks.loader import write_kaggle
from benchmarks.measure import Spread
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.evaluation import scoring
from brats_jax.experiments import config as experiment_config
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs.folder import StageFolder
from brats_jax.runtime import devices
from brats_jax.tasks import Task

TUMOUR_SLICES, EPOCHS, BATCH = 24_422, 30, 16
TRAIN_SHARE, VALIDATION_SHARE, TEST_SHARE = 0.85 * 0.8, 0.85 * 0.2, 0.15
TRAININGS = {"pretrain": 5, "segment": 30}
EPOCH = measure.Record(
    "epoch * device",
    "epoch * host",
    optional=("ratio",),
    **dict.fromkeys(("steps_per_epoch", "slices", "batch"), int),
    placement=str,
    **dict.fromkeys(("steps", "waiting", "idle", "asking", "validation", "checkpoint"), float),
    **dict.fromkeys(("step", "waiting_share", "idle_share", "bare", "start"), float),
    **dict.fromkeys(("compiling", "scoring", "hours"), float),
    ratio=Spread,
    text=str,
)
PROJECTION = measure.Record("projection device", "projection host", hours=float, text=str)


def run_stage(
    stage: str,
    config: ConfigDict,
    store: Store,
    folder: Path,
    validation_slices: int,
    compiling: Compiling,
    peer: tuple[str, list[str], bool] | None,
) -> tuple[Clock, dict[str, Any]]:
    """Trains and scores one stage; returns its clock and the sizes of an epoch.

    `peer`: interpreter, arguments of torch_epoch.py that do not depend on the stage, and whether
    its malloc keeps freed memory.
    """
    settings = experiment_config.parse(config)
    task = experiment_config.task(settings, stage)
    last = store.patient_of == len(store.patients) - 1
    tumour = store.has_tumour
    options = experiment_config.train_options(settings, stage, 0)
    chosen = np.flatnonzero(tumour & last)[: validation_slices or None]
    clock = Clock()
    trained = timed_stage(clock)(
        task,
        store,
        np.flatnonzero(tumour & ~last),
        chosen,
        options,
        StageFolder(folder),
        devices.data_mesh(),
    )
    if peer:
        flags = [*peer[1], f"--stage={stage}", f"--steps={trained.steps_per_epoch}"]
        flags.append(f"--validation_slices={len(chosen)}")
        clock.peer = measure.Peer(peer[0], "peers/torch_epoch.py", flags, peer[2])
    before, begin = compiling.seconds, time.perf_counter()
    trained.run()
    whole = time.perf_counter() - begin - clock.excluded - (compiling.seconds - before)
    if clock.peer is not None:
        clock.peer.close()
    parts = clock.median()
    epoch = parts["steps"] + parts["validation"] + parts["checkpoint"]
    clock.start = max(0.0, whole - len(clock.epochs) * epoch)
    few = chosen[: config.evaluation.batch_size]
    short, long = (
        _seconds_of_scoring(task, config, store, slices, folder, compiling)
        for slices in (few, chosen)
    )
    clock.scoring = long / len(chosen)
    if len(few) < len(chosen) and short < long:
        # The difference of two sizes separates the cost per slice from the fixed cost.
        clock.scoring = (long - short) / (len(chosen) - len(few))
        clock.start += max(0.0, short - len(few) * clock.scoring)
    clock.compiling = compiling.seconds - before
    numbers = {
        "steps_per_epoch": trained.steps_per_epoch,
        "slices": len(chosen),
        "placement": trained.placement,
        "batch": options.batch_size,
    }
    return clock, numbers


def _seconds_of_scoring(
    task: Task,
    config: ConfigDict,
    store: Store,
    slices: np.ndarray,
    folder: Path,
    compiling: Compiling,
) -> float:
    """Seconds to evaluate some slices, without compilation."""
    before, begin = compiling.seconds, time.perf_counter()
    restored = RestoredNetwork(task, StageFolder(folder), devices.data_mesh())
    options = config.evaluation
    scoring.score(restored, store, slices, options.batch_size, options.tolerance_mm, "")
    return time.perf_counter() - begin - (compiling.seconds - before)


def projected_hours(
    step: float, slice_: float, checkpoint: float, batch: int, start: float, scored: float
) -> float:
    """Hours of one of the paper's trainings with its evaluation.

    Args:
      step: seconds of a training step.
      slice_: seconds per validated slice.
      checkpoint: seconds that an epoch waits for its checkpoints.
      batch: patches per step.
      start: seconds of a training outside of its epochs.
      scored: seconds per evaluated slice.
    """
    steps = int(TUMOUR_SLICES * TRAIN_SHARE) // batch
    epoch = steps * step + TUMOUR_SLICES * VALIDATION_SHARE * slice_ + checkpoint
    return (start + EPOCHS * epoch + TUMOUR_SLICES * TEST_SHARE * scored) / 3600


def report_epoch(title: str, clock: Clock, numbers: dict[str, Any]) -> float:
    """Prints and records an epoch; returns the projected hours of one training."""
    parts, steps, batch = clock.median(), numbers["steps_per_epoch"], numbers["batch"]
    step = parts["steps"] / steps
    each = Spread.of([epoch["steps"] / steps for epoch in clock.epochs[1:]])
    waiting, idle = (parts[name] / parts["steps"] for name in ("waiting", "idle"))
    slice_ = parts["validation"] / numbers["slices"]
    hours = projected_hours(step, slice_, parts["checkpoint"], batch, clock.start, clock.scoring)
    if clock.peer_epochs:
        ours = [e["steps"] + e["validation"] + e["checkpoint"] for e in clock.epochs[1:]]
        quotient = measure.ratio(ours, [whole for whole, *_ in clock.peer_epochs[1:]])
        its = np.median(clock.peer_epochs[1:], axis=0)
        print(
            f"{title}: an epoch takes {quotient.show(digits=2)} of PyTorch's time; PyTorch "
            f"{its[0]:.1f} s: steps {its[1]:.1f}, validation {its[2]:.1f}, saving {its[3]:.1f}"
        )
    print(
        f"{title}, patches cut on the {numbers['placement']}: {each.show(1e3)} ms per step, "
        f"{batch / step:.0f} patches/s; waiting for data {waiting:.2%} of the time (idle for any "
        f"reason {idle:.2%}); with the batch in device memory {1e3 * clock.bare:.1f} ms per step, "
        f"{clock.bare / step:.1%} of the time\n"
        f"  an epoch of {steps} steps {parts['steps']:.1f} s, validation of {numbers['slices']} "
        f"slices {parts['validation']:.1f} s ({1 / slice_:.0f} slices/s), checkpoints "
        f"{parts['checkpoint']:.1f} s; {clock.steps_per_dispatch} step(s) per dispatch\n"
        f"  start {clock.start:.1f} s, compilation {clock.compiling:.1f} s, evaluation "
        f"{1 / clock.scoring:.0f} slices/s\n"
        f"  one of the paper's trainings at batch {batch}: {hours:.2f} hours"
    )
    speedup = f"{1 / quotient.middle:.2f} x PyTorch; " if clock.peer_epochs else ""
    text = (
        f"{speedup}{1e3 * step:.1f} ms per step ({1e3 * clock.bare:.1f} with the batch in memory), "
        f"waiting for data {waiting:.2%}"
    )
    EPOCH.keep(
        f"epoch {title} {numbers['placement']}",
        text=text,
        **numbers,
        **parts,
        step=step,
        waiting_share=waiting,
        idle_share=idle,
        bare=clock.bare,
        start=clock.start,
        compiling=clock.compiling,
        scoring=clock.scoring,
        hours=hours,
        **({"ratio": quotient} if clock.peer_epochs else {}),
    )
    return hours


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, help="a prepared store; default: a phantom store")
    parser.add_argument("--patients", type=int, default=3, help="phantom patients")
    parser.add_argument("--shape", default="48,240,240", help="slices,H,W of a phantom patient")
    parser.add_argument("--stages", default="pretrain,segment")
    parser.add_argument("--losses", default="dice_ce", help="one segmentation run for each loss")
    parser.add_argument("--steps", type=int, default=10, help="steps per epoch; 0: one pass")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--placement", choices=("auto", "host", "device"), default="auto")
    parser.add_argument("--steps_per_dispatch", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3, help="epochs after the first")
    parser.add_argument(
        "--peer_python", help="Python with torch and h5py; without it, no peer is measured"
    )
    parser.add_argument(
        "--peer_keeps_memory",
        action="store_true",
        help="the peer's malloc keeps freed memory, as ours does on a CPU",
    )
    parser.add_argument(
        "--validation_slices", type=int, default=0, help="0: all tumour slices of one patient"
    )
    return parser


def configured(arguments: argparse.Namespace) -> ConfigDict:
    """configs/base.py with the sizes of the command."""
    base = Path(__file__).parent.parent / "configs" / "base.py"
    config = runpy.run_path(str(base))["get_config"]()
    config.model.width = arguments.width
    config.train.batch_size = arguments.batch
    config.train.validation_batch_size = arguments.batch
    config.train.float32_epochs = 0  # only the first epoch of a real run is in float32
    config.train.steps_per_dispatch = arguments.steps_per_dispatch
    config.data.placement, config.data.threads = arguments.placement, arguments.threads
    config.data.patch_size = arguments.patch
    for stage in TRAININGS:
        config[stage].slices = "tumour"
        config[stage].epochs = 1 + arguments.turns
        config[stage].steps_per_epoch = arguments.steps
    return config


def peer_of(arguments: argparse.Namespace, slices: Path, size: int) -> tuple[str, list[str], bool]:
    """The peer of `run_stage`.

    Args:
      arguments: of the command.
      slices: folder of Kaggle's files.
      size: side of a slice.
    """
    shared = ("width", "batch", "patch")
    flags = [f"--{name}={getattr(arguments, name)}" for name in shared]
    flags += [f"--folder={slices}", f"--size={size}"]
    flags += [f"--workers={max(arguments.threads, os.cpu_count() or 1)}"]
    flags += [f"--device={'cpu' if jax.default_backend() == 'cpu' else 'cuda'}"]
    return arguments.peer_python, flags, arguments.peer_keeps_memory


def main() -> None:
    arguments = parser().parse_args()
    if arguments.store and arguments.peer_python:
        parser().error("--peer_python reads the slices of the phantom: leave out --store")
    devices.keep_freed_memory()  # as the commands do
    logging.set_verbosity(logging.ERROR)  # Orbax logs every checkpoint
    config = configured(arguments)
    stages, losses = arguments.stages.split(","), arguments.losses.split(",")
    hours: dict[str, list[float]] = {stage: [] for stage in stages}
    compiling, once = Compiling(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        slices, height, width = (int(size) for size in arguments.shape.split(","))
        shape = (slices, height, width)
        if arguments.store is None:
            prepare("phantom", root / "store", patients=arguments.patients, seed=0, shape=shape)
        store = Store.open(arguments.store or root / "store")
        peer = None
        if arguments.peer_python:
            write_kaggle(root / "kaggle", arguments.patients, shape)
            peer = peer_of(arguments, root / "kaggle", shape[-1])
        for stage, loss in itertools.product(stages, losses):
            if stage == "pretrain" and loss != losses[0]:
                continue
            config.loss = loss
            title = stage if stage == "pretrain" else f"{stage} {loss}"
            clock, numbers = run_stage(
                *(stage, config, store, root / title),
                *(arguments.validation_slices, compiling, peer),
            )
            once += clock.compiling / 3600
            hours[stage].append(report_epoch(title, clock, numbers))
    if set(hours) == set(TRAININGS):
        total = sum(TRAININGS[stage] * float(np.mean(each)) for stage, each in hours.items())
        total += once
        print(
            f"projection for the paper's 35 trainings on tumour slices: {total:.2f} hours at width "
            f"{arguments.width}, including starts and evaluations"
        )
        placement = numbers["placement"]
        PROJECTION.keep(f"projection {placement}", hours=total, text=f"{total:.2f} hours")
    kept = "; PyTorch keeps freed memory" if arguments.peer_keeps_memory else ""
    print(f"  {measure.where()}{kept}")


if __name__ == "__main__":
    main()
