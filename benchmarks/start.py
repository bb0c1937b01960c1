"""Seconds from the start of the training command to its first logged step.

    python benchmarks/start.py --peer_python=TORCH_VENV/bin/python    # needs torch and h5py there
    python benchmarks/start.py --imports      # time of the imports, by module

Runs `python -m brats_jax.main` with configs/base.py on a phantom store. The first run fills the
cache of compiled programs and is not counted. The peer, which alternates with ours, runs the first
two steps of the same network in PyTorch, on the same slices in Kaggle's format
(peers/torch_epoch.py). The time to import JAX alone is printed as a lower bound.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import measure
from benchmarks.loader import write_kaggle
from benchmarks.measure import Spread
from brats_jax.data.store.prepare import prepare
from brats_jax.runs.folder import RunFolder

START = measure.Record("start", optional=("ratio",), seconds=float, text=str, ratio=Spread)
ROOT = Path(__file__).parent.parent


def first_step(command: list[str], metrics: Path, environment: dict[str, str]) -> float:
    """Runs a command until the file `metrics` has content, and returns the seconds."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None:
                raise SystemExit(f"the program ended with status {process.returncode}")
            time.sleep(0.01)
        return time.perf_counter() - start
    finally:
        measure.end_group(process)


def peers_first_step(command: list[str]) -> float:
    """Runs the peer until it reports that two steps are done, and returns the seconds."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise SystemExit(f"the peer's process ended with status {process.wait()}")
        return time.perf_counter() - start
    finally:
        measure.end_group(process)


def imports(statement: str, environment: dict[str, str], turns: int = 3) -> float:
    """Seconds of a Python process that runs a statement, the minimum over `turns`."""
    command = [sys.executable, "-c", statement]
    return min(
        measure.timed(lambda: subprocess.run(command, cwd=ROOT, env=environment, check=True))
        for _ in range(turns)
    )


def list_imports(environment: dict[str, str]) -> None:
    """Prints the slowest imports of a training: with and without what they import themselves."""
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-c",
        "import brats_jax.experiments.experiment",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = [line.split("|") for line in done.stderr.splitlines() if line.count("|") == 2]
    for own, total, name in sorted(lines[1:], key=lambda line: -int(line[1]))[:40]:
        print(f"{int(total) / 1e3:8.1f} ms {int(own.split(':')[1]) / 1e3:8.1f} ms {name}")


def command_of_peer(arguments: argparse.Namespace, slices: Path, size: int) -> list[str]:
    """The peer's command for two steps on the slices in a folder, which have this side."""
    script = str(ROOT / "benchmarks" / "peers" / "torch_epoch.py")
    sizes = [f"--{name}={getattr(arguments, name)}" for name in ("width", "batch", "patch")]
    return [
        *(arguments.peer_python, script, "--stage=pretrain", "--steps=2", *sizes),
        *(f"--size={size}", "--workers=2", f"--folder={slices}", "--validation_slices=1"),
    ]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--peer_python", help="Python with torch and h5py; without it, no peer is measured"
    )
    parser.add_argument(
        "--imports", action="store_true", help="only list the slowest imports and exit"
    )
    return parser


def main() -> None:
    arguments = parser().parse_args()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if arguments.imports:
        list_imports(environment)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = max(64, arguments.patch)
        prepare("phantom", root / "store", patients=8, seed=0, shape=(16, size, size))
        peer_command: list[str] = []
        if arguments.peer_python:
            write_kaggle(root / "kaggle", 8, (16, size, size))
            peer_command = command_of_peer(arguments, root / "kaggle", size)
        settings = {
            "data.store": root / "store",
            "compilation_cache": root / "compiled",
            "model.width": arguments.width,
            "data.patch_size": arguments.patch,
            "train.batch_size": arguments.batch,
            "train.log_every_steps": 1,
            "folds": "(0,)",
            "pretrain.steps_per_epoch": 100,
        }
        flags = [f"--config.{name}={value}" for name, value in settings.items()]
        seconds, peer_seconds = [], []
        for turn in range(arguments.turns + 1):
            workdir = root / f"run{turn}"
            command = [sys.executable, "-m", "brats_jax.main", "--config=configs/base.py"]
            command += [f"--workdir={workdir}", *flags]
            metrics = RunFolder(workdir).fold(0).stage("pretrain").metrics_jsonl
            seconds.append(first_step(command, metrics, environment))
            if peer_command:
                peer_seconds.append(peers_first_step(peer_command))
        assert json.loads(metrics.read_text().splitlines()[0])["event"] == "step"
    first, *cached = seconds
    spread = Spread.of(cached)
    training_imports = imports("import brats_jax.experiments.experiment", environment)
    jax_alone = imports("import jax", environment)
    text = f"{spread.show()} s; {first:.1f} s without the cache"
    ratios = {}
    if peer_seconds:
        ratios["ratio"] = quotient = measure.ratio(cached, peer_seconds[1:])
        print(
            f"{quotient.show(digits=2)} of PyTorch's time, {Spread.of(peer_seconds[1:]).show()} s"
        )
    print(f"command to the first logged step: {text}")
    print(f"  imports of a training {training_imports:.2f} s, of JAX alone {jax_alone:.2f} s")
    print(
        f"  width {arguments.width}, batch {arguments.batch}, {arguments.patch} x "
        f"{arguments.patch}; time of two steps, because the program logs a step during the next; "
        f"{measure.where()}"
    )
    START.keep("start", seconds=spread.middle, text=text, **ratios)


if __name__ == "__main__":
    main()
