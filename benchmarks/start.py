"""Seconds from the command to the first logged step, with the compiled programs cached on disk.

    python benchmarks/start.py                # and from which on: imports, state, first step
    python benchmarks/start.py --imports      # what importing takes, by module

The program itself, `python -m brats_jax.main` with configs/base.py, on a phantom store: a first
run fills the cache and does not count. Beside it a Python that imports JAX alone, the floor.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
from measure import Spread

from brats_jax.data.preparation import prepare

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


def imports(statement: str, environment: dict[str, str], turns: int = 3) -> float:
    """The least seconds of a Python that runs a statement."""
    command = [sys.executable, "-c", statement]
    return min(
        measure.timed(lambda: subprocess.run(command, cwd=ROOT, env=environment, check=True))
        for _ in range(turns)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--imports", action="store_true", help="the slowest imports, and no more")
    arguments = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if arguments.imports:
        command = [sys.executable, "-X", "importtime", "-c", "import brats_jax.experiment"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        lines = [line.split("|") for line in done.stderr.splitlines() if line.count("|") == 2]
        for own, total, name in sorted(lines[1:], key=lambda line: -int(line[1]))[:40]:
            print(f"{int(total) / 1e3:8.1f} ms {int(own.split(':')[1]) / 1e3:8.1f} ms {name}")
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = max(64, arguments.patch)
        prepare("phantom", root / "store", patients=8, seed=0, shape=(16, size, size))
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
        seconds = []
        for turn in range(arguments.turns + 1):
            workdir = root / f"run{turn}"
            command = [sys.executable, "-m", "brats_jax.main", "--config=configs/base.py"]
            command += [f"--workdir={workdir}", *told]
            metrics = workdir / "fold_0" / "pretrain" / "metrics.jsonl"
            seconds.append(first_step(command, metrics, environment))
        assert json.loads(metrics.read_text().splitlines()[0])["event"] == "step"
    first, *cached = seconds
    spread = Spread.of(cached)
    everything = imports("import brats_jax.experiment", environment)
    jax_alone = imports("import jax", environment)
    text = f"{spread.show()} s; {first:.1f} s without the cache"
    print(f"command to the first logged step: {text}")
    print(f"  importing all that training needs {everything:.2f} s, JAX alone {jax_alone:.2f} s")
    print(
        f"  width {arguments.width}, batch {arguments.batch}, {arguments.patch} x "
        f"{arguments.patch}; two steps, because a step is logged with the next; {measure.where()}"
    )
    measure.result("start", seconds=spread.middle, text=text)


if __name__ == "__main__":
    main()
