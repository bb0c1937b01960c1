"""An epoch of each stage through the program's own loop: seconds by part, and the paper's grid.

    python benchmarks/epoch.py --peer_python=TORCH_VENV/bin/python # the phantom, a few steps
    python benchmarks/epoch.py --steps=0 --placement=device        # a whole pass, e.g. on a GPU
    python benchmarks/epoch.py --store=STORE --steps=0             # slices of one's own

Epochs as configs/base.py has them, on tumour slices; the first compiles and does not count, and
printed is the median of the others. After each of ours the peer does one of as many steps and
validated slices (torch_epoch.py: a DataLoader over the same phantom's slices as Kaggle has them).
The last patient is validated on, the others are trained on. Waiting for data is the time in which
the devices had nothing to do while the loop asked for its next batch: a thread takes down when
each dispatch is done. Beside it the same steps on a batch that lies on the devices, which also
tells what copying costs.

From this the paper's 35 trainings are projected: 5 pretexts and 30 segmentations of 30 epochs on
the 24,422 tumour slices of BraTS 2020, of which 68 % train and 17 % validate in each fold and 15 %
are the test set, which each training ends with. Beside its epochs a training has a start: all else
that the run took. Compiling is counted once for each kind, since programs are kept on disk;
importing (start.py --imports) is left out.
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
from brats_jax.inference.restored import RestoredNetwork
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
    """Trains one stage and scores it; its clock, and the numbers of an epoch.

    `peer`: the interpreter, what torch_epoch.py is told that is not of the stage, and whether it
    keeps its memory.
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
        told = [*peer[1], f"--stage={stage}", f"--steps={trained.steps_per_epoch}"]
        told.append(f"--validation_slices={len(chosen)}")
        clock.peer = measure.Peer(peer[0], "peers/torch_epoch.py", told, peer[2])
    before, begin = compiling.seconds, time.perf_counter()
    trained.run()
    whole = time.perf_counter() - begin - clock.beside - (compiling.seconds - before)
    if clock.peer is not None:
        clock.peer.close()
    parts = clock.median()
    epoch = parts["steps"] + parts["validation"] + parts["checkpoint"]
    clock.start = max(0.0, whole - len(clock.epochs) * epoch)
    few = chosen[: config.evaluation.batch_size]
    least, most = (
        _scored(task, config, store, slices, folder, compiling) for slices in (few, chosen)
    )
    clock.scoring = most / len(chosen)
    if len(few) < len(chosen) and least < most:
        # What is done once for an evaluation does not grow with it.
        clock.scoring = (most - least) / (len(chosen) - len(few))
        clock.start += max(0.0, least - len(few) * clock.scoring)
    clock.compiling = compiling.seconds - before
    numbers = {
        "steps_per_epoch": trained.steps_per_epoch,
        "slices": len(chosen),
        "placement": trained.placement,
        "batch": options.batch_size,
    }
    return clock, numbers


def _scored(
    task: Task,
    config: ConfigDict,
    store: Store,
    slices: np.ndarray,
    folder: Path,
    compiling: Compiling,
) -> float:
    """Seconds of evaluating some slices, programs being there."""
    before, begin = compiling.seconds, time.perf_counter()
    restored = RestoredNetwork(task, StageFolder(folder), devices.data_mesh())
    options = config.evaluation
    scoring.score(restored, store, slices, options.batch_size, options.tolerance_mm, "")
    return time.perf_counter() - begin - (compiling.seconds - before)


def projected_hours(
    step: float, slice_: float, checkpoint: float, batch: int, start: float, scored: float
) -> float:
    """Of one training of the paper's and its evaluation.

    From the seconds of a step, a validated slice, an epoch's checkpoints, a start, and a slice
    that is evaluated.
    """
    steps = int(TUMOUR_SLICES * TRAIN_SHARE) // batch
    epoch = steps * step + TUMOUR_SLICES * VALIDATION_SHARE * slice_ + checkpoint
    return (start + EPOCHS * epoch + TUMOUR_SLICES * TEST_SHARE * scored) / 3600


def tell(title: str, clock: Clock, numbers: dict[str, Any]) -> float:
    """Prints and records an epoch; the hours of one training."""
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
            f"{title}: an epoch in {quotient.show(digits=2)} of PyTorch's time; PyTorch "
            f"{its[0]:.1f} s, of which steps {its[1]:.1f}, validating {its[2]:.1f}, saving "
            f"{its[3]:.1f}"
        )
    print(
        f"{title}, cut on the {numbers['placement']}: {each.show(1e3)} ms a step, "
        f"{batch / step:.0f} patches/s; waiting for data {waiting:.2%} of it (idle for any reason "
        f"{idle:.2%}); the same on a batch that is there {1e3 * clock.bare:.1f} ms, "
        f"{clock.bare / step:.1%} of it\n"
        f"  an epoch of {steps} steps {parts['steps']:.1f} s, validating {numbers['slices']} "
        f"slices {parts['validation']:.1f} s ({1 / slice_:.0f} slices/s), checkpoints "
        f"{parts['checkpoint']:.1f} s; {clock.steps_per_dispatch} step(s) a dispatch\n"
        f"  a start {clock.start:.1f} s, compiling {clock.compiling:.1f} s, evaluating "
        f"{1 / clock.scoring:.0f} slices/s\n"
        f"  a training of the paper's at batch {batch}: {hours:.2f} hours"
    )
    beside = f"{1 / quotient.middle:.2f} x PyTorch; " if clock.peer_epochs else ""
    text = (
        f"{beside}{1e3 * step:.1f} ms a step ({1e3 * clock.bare:.1f} on a batch in memory), "
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
    """Of its arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, help="a prepared store; without it the phantom's")
    parser.add_argument("--patients", type=int, default=3, help="phantom patients")
    parser.add_argument("--shape", default="48,240,240", help="of a phantom: slices,H,W")
    parser.add_argument("--stages", default="pretrain,segment")
    parser.add_argument("--losses", default="dice_ce", help="of the segmentation: one run for each")
    parser.add_argument("--steps", type=int, default=10, help="of an epoch; 0: one pass")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--placement", choices=("auto", "host", "device"), default="auto")
    parser.add_argument("--steps_per_dispatch", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3, help="epochs that count")
    parser.add_argument("--peer_python", help="a Python with torch and h5py; without it only ours")
    parser.add_argument(
        "--peer_keeps_memory",
        action="store_true",
        help="its malloc keeps what is freed, as ours does on a CPU; else as PyTorch is installed",
    )
    parser.add_argument("--validation_slices", type=int, default=0, help="0: all of one patient")
    return parser


def main() -> None:
    arguments = parser().parse_args()
    if arguments.store and arguments.peer_python:
        parser().error("--peer_python reads the phantom's slices: leave out --store")
    devices.keep_freed_memory()  # as the commands do
    logging.set_verbosity(logging.ERROR)  # Orbax tells every checkpoint
    base = Path(__file__).parent.parent / "configs" / "base.py"
    config = runpy.run_path(str(base))["get_config"]()
    config.model.width = arguments.width
    config.train.batch_size = arguments.batch
    config.train.validation_batch_size = arguments.batch
    config.train.float32_epochs = 0  # every epoch like all but a run's first
    config.train.steps_per_dispatch = arguments.steps_per_dispatch
    config.data.placement, config.data.threads = arguments.placement, arguments.threads
    config.data.patch_size = arguments.patch
    for stage in TRAININGS:
        config[stage].slices = "tumour"
        config[stage].epochs = 1 + arguments.turns
        config[stage].steps_per_epoch = arguments.steps
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
            same = ("width", "batch", "patch")
            told = [f"--{name}={getattr(arguments, name)}" for name in same]
            told += [f"--folder={root / 'kaggle'}", f"--size={shape[-1]}"]
            told += [f"--workers={max(arguments.threads, os.cpu_count() or 1)}"]
            told += [f"--device={'cpu' if jax.default_backend() == 'cpu' else 'cuda'}"]
            peer = arguments.peer_python, told, arguments.peer_keeps_memory
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
            hours[stage].append(tell(title, clock, numbers))
    if set(hours) == set(TRAININGS):
        total = sum(TRAININGS[stage] * float(np.mean(each)) for stage, each in hours.items())
        total += once
        print(
            f"the paper's 35 trainings on tumour slices: {total:.2f} hours projected, at width "
            f"{arguments.width}, with starts and evaluations"
        )
        placement = numbers["placement"]
        PROJECTION.keep(f"projection {placement}", hours=total, text=f"{total:.2f} hours")
    kept = "; memory kept in PyTorch" if arguments.peer_keeps_memory else ""
    print(f"  {measure.where()}{kept}")


if __name__ == "__main__":
    main()
