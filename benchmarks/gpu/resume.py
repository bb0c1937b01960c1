"""Is a run the same, to the bit, if it is stopped twice, or fed in another way?

    python benchmarks/gpu/resume.py                              # narrow, a minute or two on a CPU
    python benchmarks/gpu/resume.py --width=64 --batch=16 --patch=128 --shape=32,240,240  # on a GPU

The program itself, `python -m brats_jax.main` with configs/base.py, on a phantom: both stages, an
epoch each. One run is left alone. Another is told to stop (SIGTERM) in the middle of the first
stage and killed (SIGKILL) in the middle of the second; each time the same command is given again.
A third cuts its patches in the other place (host or device), a fourth has one step in a dispatch
(as a CPU always has; on a GPU that is another program, and nothing promises its rounding).
What each has in the end are weights and BatchNorm statistics of two networks, compared bit by
bit with the first's. Tests do the same on a CPU; on a GPU it takes `train.deterministic`, and the
same programs, which the compilation cache keeps.
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
from brats_jax.inference.restored import RestoredNetwork
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
    """Runs the command until it has logged steps to `metrics`, and sends it a signal.

    Raises:
      SystemExit: it ended before.
    """
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not (metrics.exists() and metrics.read_text().count("\n") > 1):
            if process.poll() is not None:
                raise SystemExit(f"the program ended with {process.returncode}, not by the signal")
            time.sleep(0.01)
        process.send_signal(number)
        process.wait(120)
    finally:
        measure.end_group(process)


def leaves(folder: Path, width: int) -> dict[str, np.ndarray]:
    """The best model of either stage, by path."""
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
    """Names of the arrays that are not the same bits."""
    if set(left) != set(right):
        raise ValueError("not the same networks")
    return [name for name in left if left[name].tobytes() != right[name].tobytes()]


def parser() -> argparse.ArgumentParser:
    """Of its arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--shape", default="16,64,64", help="of a patient: slices,H,W")
    parser.add_argument("--steps", type=int, default=400, help="of either stage")
    parser.add_argument("--log_every_steps", type=int, default=50)
    parser.add_argument("--placement", choices=("auto", "host", "device"), default="auto")
    parser.add_argument("--stops_only", action="store_true", help="not the other ways to be fed")
    parser.add_argument("--any_order", action="store_true", help="train.deterministic=False")
    return parser


def main() -> None:
    arguments = parser().parse_args()
    # Told to stop, it takes its run and its folder with it.
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
        told = [f"--config.{name}={value}" for name, value in settings.items()]

        def command(name: str, **other: object) -> list[str]:
            config = ["--config=configs/base.py", f"--workdir={root / name}", *told]
            config += [f"--config.{key.replace('__', '.')}={value}" for key, value in other.items()]
            return [sys.executable, "-m", "brats_jax.main", *config]

        def to_the_end(name: str, **other: object) -> None:
            done = subprocess.run(
                command(name, **other), cwd=ROOT, env=environment, stdout=subprocess.PIPE
            )
            if done.returncode:
                raise SystemExit(f"the program ended with status {done.returncode}")

        def compare(name: str, what: str) -> None:
            found = leaves(root / name, arguments.width)
            names = differing(alone, found)
            which = f": {', '.join(names[:4])}" if names else ""
            print(f"{len(names)} of {len(found)} arrays differ {what}{which}", flush=True)
            order = "any order" if arguments.any_order else "one order"
            text = f"{len(names)} of {len(found)}"
            BITS.keep(f"{name} {order}", differing=len(names), arrays=len(found), text=text)

        to_the_end("alone")
        alone = leaves(root / "alone", arguments.width)
        for stage, number in (("pretrain", signal.SIGTERM), ("segment", signal.SIGKILL)):
            metrics = RunFolder(root / "resume").fold(0).stage(stage).metrics_jsonl
            stopped(command("resume"), metrics, number, environment)
            print(f"{stage}: {number.name} after {metrics.read_text().count(chr(10))} lines")
        to_the_end("resume")
        compare("resume", "after a stop and a kill")
        if not arguments.stops_only:
            # What `auto` does not choose for so few slices.
            other = "device" if jax.default_backend() == "cpu" else "host"
            other = {"host": "device", "device": "host"}.get(arguments.placement, other)
            to_the_end("placement", data__placement=other)
            compare("placement", f"if the {other} cuts the patches")
            to_the_end("single", train__steps_per_dispatch=1)
            compare("single", "with one step in a dispatch")
    print(
        f"  width {arguments.width}, batch {arguments.batch}, {arguments.patch} x "
        f"{arguments.patch}, {arguments.steps} steps a stage, {measure.where()}"
    )


if __name__ == "__main__":
    main()
