"""Checks that an interrupted run, and a run with other data placement, give the same bits.

    python benchmarks/gpu/resume.py                              # narrow, a minute or two on a CPU
    python benchmarks/gpu/resume.py --width=64 --batch=16 --patch=128 --shape=32,240,240  # on a GPU

Runs `python -m brats_jax.main` with configs/base.py on a phantom, both stages, one epoch each:

    alone      without interruption
    resume     gets SIGTERM in the first stage and SIGKILL in the second; after each signal the
               same command is given again
    placement  cuts its patches on the device instead of the host, or the reverse
    single     runs one step per dispatch; on a GPU this is another compiled program, which may
               round differently (on a CPU it is always so)

At the end the weights and BatchNorm statistics of both networks are compared bit by bit with those
of `alone`. Tests check the same on a CPU. On a GPU equal bits need `train.deterministic` and the
same compiled programs, which the compilation cache keeps.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks import measure
from brats_jax.data.store.prepare import prepare
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime import devices
from brats_jax.tasks import Pretraining, Segmentation, Task

ROOT = Path(__file__).parents[2]
BITS = measure.Record(
    *(
        f"{way} {order} order"
        for way in ("resume", "placement", "single")
        for order in ("one", "any")
    ),
    differing=int,
    arrays=int,
    text=str,
)
STAGES: dict[str, type[Task]] = {"pretrain": Pretraining, "segment": Segmentation}


def stopped(command: list[str], metrics: Path, number: int, environment: dict[str, str]) -> None:
    """Runs a command until it has logged steps to `metrics`, then sends it the signal `number`.

    Raises:
      SystemExit: the command ended before the signal.
    """
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not (metrics.exists() and metrics.read_text().count("\n") > 1):
            if process.poll() is not None:
                raise SystemExit(
                    f"the program ended with status {process.returncode} before the signal"
                )
            time.sleep(0.01)
        process.send_signal(number)
        process.wait(120)
    finally:
        measure.end_group(process)


def leaves(folder: Path, width: int) -> dict[str, np.ndarray]:
    """The arrays of the best models of both stages, by path."""
    found: dict[str, np.ndarray] = {}
    for stage, kind in STAGES.items():
        task = kind(width=width, dtype=devices.compute_dtype("auto"))
        restored = RestoredNetwork(
            task, RunFolder(folder).fold(0).stage(stage), devices.data_mesh()
        )
        state = {"params": restored.params, "stats": restored.stats}
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            found[stage + jax.tree_util.keystr(path)] = np.asarray(leaf)
    return found


def differing(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> list[str]:
    """Names of the arrays whose bits differ."""
    if set(left) != set(right):
        raise ValueError("the networks have different arrays")
    return [name for name in left if left[name].tobytes() != right[name].tobytes()]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--shape", default="16,64,64", help="slices,H,W of a patient")
    parser.add_argument("--steps", type=int, default=400, help="steps of each stage")
    parser.add_argument("--log_every_steps", type=int, default=50)
    parser.add_argument("--placement", choices=("auto", "host", "device"), default="auto")
    parser.add_argument("--stops_only", action="store_true", help="skip `placement` and `single`")
    parser.add_argument("--any_order", action="store_true", help="train.deterministic=False")
    return parser


def main() -> None:
    arguments = parser().parse_args()
    # Exits by an exception, so that the running command is killed and the folder removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shape = [int(size) for size in arguments.shape.split(",")]
        prepare("phantom", root / "store", patients=8, seed=0, shape=shape)
        settings = {
            "data.store": root / "store",
            "data.patch_size": arguments.patch,
            "data.placement": arguments.placement,
            "compilation_cache": root / "compiled",
            "model.width": arguments.width,
            "train.batch_size": arguments.batch,
            "train.log_every_steps": arguments.log_every_steps,
            "train.save_every_steps": arguments.log_every_steps,
            "train.deterministic": not arguments.any_order,
            "folds": "(0,)",
            "evaluation.panels": 0,
        }
        for stage in STAGES:
            settings |= {f"{stage}.steps_per_epoch": arguments.steps, f"{stage}.epochs": 1}
        flags = [f"--config.{name}={value}" for name, value in settings.items()]

        def command(name: str, **other: object) -> list[str]:
            config = ["--config=configs/base.py", f"--workdir={root / name}", *flags]
            config += [f"--config.{key.replace('__', '.')}={value}" for key, value in other.items()]
            return [sys.executable, "-m", "brats_jax.main", *config]

        def run(name: str, **other: object) -> None:
            done = subprocess.run(
                command(name, **other), cwd=ROOT, env=environment, stdout=subprocess.PIPE
            )
            if done.returncode:
                raise SystemExit(f"the program ended with status {done.returncode}")

        def compare(name: str, condition: str) -> None:
            found = leaves(root / name, arguments.width)
            names = differing(alone, found)
            listed = f": {', '.join(names[:4])}" if names else ""
            print(f"{len(names)} of {len(found)} arrays differ {condition}{listed}", flush=True)
            order = "any order" if arguments.any_order else "one order"
            text = f"{len(names)} of {len(found)}"
            BITS.keep(f"{name} {order}", differing=len(names), arrays=len(found), text=text)

        run("alone")
        alone = leaves(root / "alone", arguments.width)
        for stage, number in (("pretrain", signal.SIGTERM), ("segment", signal.SIGKILL)):
            metrics = RunFolder(root / "resume").fold(0).stage(stage).metrics_jsonl
            stopped(command("resume"), metrics, number, environment)
            print(f"{stage}: {number.name} after {metrics.read_text().count(chr(10))} lines")
        run("resume")
        compare("resume", "after a stop and a kill")
        if not arguments.stops_only:
            # The placement that `auto` does not choose for so few slices.
            other = "device" if jax.default_backend() == "cpu" else "host"
            other = {"host": "device", "device": "host"}.get(arguments.placement, other)
            run("placement", data__placement=other)
            compare("placement", f"if the {other} cuts the patches")
            run("single", train__steps_per_dispatch=1)
            compare("single", "with one step per dispatch")
    print(
        f"  width {arguments.width}, batch {arguments.batch}, {arguments.patch} x "
        f"{arguments.patch}, {arguments.steps} steps per stage, {measure.where()}"
    )


if __name__ == "__main__":
    main()
