"""Seconds from the command to the first logged step, with the compiled programs cached on disk.

    python benchmarks/start.py --peer_python=TORCH_VENV/bin/python    # needs torch and h5py there
    python benchmarks/start.py --imports      # what importing takes, by module

The program itself, `python -m brats_jax.main` with configs/base.py, on a phantom store: a first
run fills the cache and does not count. The peer, by turns, is PyTorch doing the first two steps of
the same network on the same slices as Kaggle has them (torch_epoch.py); below it a Python that
imports JAX alone, the floor.
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
    """Seconds until the first line of `metrics` is there; the process is ended then."""
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
    """Seconds until the peer says that two steps are done."""
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
    """The least seconds of a Python that runs a statement."""
    command = [sys.executable, "-c", statement]
    return min(
        measure.timed(lambda: subprocess.run(command, cwd=ROOT, env=environment, check=True))
        for _ in range(turns)
    )


def parser() -> argparse.ArgumentParser:
    """Of its arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peer_python", help="a Python with torch and h5py; without it only ours")
    parser.add_argument("--imports", action="store_true", help="the slowest imports, and no more")
    return parser


def main() -> None:
    arguments = parser().parse_args()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if arguments.imports:
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
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = max(64, arguments.patch)
        prepare("phantom", root / "store", patients=8, seed=0, shape=(16, size, size))
        theirs: list[str] = []
        if arguments.peer_python:
            write_kaggle(root / "kaggle", 8, (16, size, size))
            script = str(ROOT / "benchmarks" / "peers" / "torch_epoch.py")
            theirs = [arguments.peer_python, script, "--stage=pretrain", "--steps=2"]
            theirs += [f"--{name}={getattr(arguments, name)}" for name in ("width", "batch")]
            theirs += [f"--patch={arguments.patch}", f"--size={size}", "--workers=2"]
            theirs += [f"--folder={root / 'kaggle'}", "--validation_slices=1"]
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
        told = [f"--config.{name}={value}" for name, value in settings.items()]
        seconds, there = [], []
        for turn in range(arguments.turns + 1):
            workdir = root / f"run{turn}"
            command = [sys.executable, "-m", "brats_jax.main", "--config=configs/base.py"]
            command += [f"--workdir={workdir}", *told]
            metrics = RunFolder(workdir).fold(0).stage("pretrain").metrics_jsonl
            seconds.append(first_step(command, metrics, environment))
            if theirs:
                there.append(peers_first_step(theirs))
        assert json.loads(metrics.read_text().splitlines()[0])["event"] == "step"
    first, *cached = seconds
    spread = Spread.of(cached)
    everything = imports("import brats_jax.experiments.experiment", environment)
    jax_alone = imports("import jax", environment)
    text = f"{spread.show()} s; {first:.1f} s without the cache"
    beside = {}
    if there:
        beside["ratio"] = quotient = measure.ratio(cached, there[1:])
        print(f"{quotient.show(digits=2)} of PyTorch's time, {Spread.of(there[1:]).show()} s")
    print(f"command to the first logged step: {text}")
    print(f"  importing all that training needs {everything:.2f} s, JAX alone {jax_alone:.2f} s")
    print(
        f"  width {arguments.width}, batch {arguments.batch}, {arguments.patch} x "
        f"{arguments.patch}; two steps, because a step is logged with the next; {measure.where()}"
    )
    START.keep("start", seconds=spread.middle, text=text, **beside)


if __name__ == "__main__":
    main()
