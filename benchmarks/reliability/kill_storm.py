"""Kills every command many times and compares its results with those of an undisturbed run.

    python benchmarks/reliability/kill_storm.py  # 100 kills, half an hour on two cores
    python benchmarks/reliability/kill_storm.py --kills=16 --folder=KEPT

Each of the eight commands runs once undisturbed. A second folder then repeats them: each command is
killed (SIGKILL) after a random time and given again, until it has had its share of the kills and
has ended by itself. An attempt that ends before its kill is compared and its results removed, so
that the next attempts begin anew. Prints for each command: kills, whole results compared, results
whose SHA-256 differs, files that only one folder has, processes that outlived their command by more
than a minute (a process of a grid saves its training first). Exits with 1 if any of the last three
is not 0.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from absl import logging

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from result_folders import read_folder  # noqa: E402

from benchmarks import measure  # noqa: E402

# In the environment of every process of a storm, to find those that outlive their command.
MARK = "BRATS_JAX_KILL_STORM"
LONGEST_S = 900
OUTLIVING_S = 60
# A count of what happened to the command, and no result.
NOT_COMPARED = "attempts"


@dataclass(frozen=True)
class Step:
    """A command, and the folders that it writes."""

    command: str
    flags: tuple[str, ...]
    results: tuple[str, ...]


@dataclass
class Count:
    """The outcome of a command's kills."""

    kills: int = 0
    compared: int = 0
    differ: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    outlived: int = 0

    @property
    def sound(self) -> bool:
        """Whether no result differs, is left over or gone, and no process outlived its command."""
        return not (self.differ or self.left_over or self.outlived)


def steps() -> list[Step]:
    """The eight commands, each on the results of those before it."""
    settings = {
        "data.store": "store",
        "data.num_folds": 2,
        "data.test_fraction": 0.25,
        "data.patch_size": 32,
        "model.width": 4,
        "train.batch_size": 2,
        "train.validation_batch_size": 4,
        "train.log_every_steps": 2,
        "train.save_every_steps": 3,
        "evaluation.batch_size": 4,
        "evaluation.panels": 1,
        "compilation_cache": "cache",
    }
    for stage in ("pretrain", "segment"):
        settings |= {f"{stage}.epochs": 2, f"{stage}.steps_per_epoch": 8}
    given = [f"--config={ROOT}/configs/base.py"]
    given += [f"--config.{name}={value}" for name, value in settings.items()]
    phantom = ("--patients=8", "--shape=16,240,240")
    cells = ("--losses=dice_ce,focal", "--ssl=false")
    return [
        Step("prepare", ("--source=phantom", *phantom, "--store=store"), ("store",)),
        Step("main", ("--workdir=run", *given, "--config.folds=0"), ("run",)),
        Step("calibrate", ("--checkpoint=run",), ("run",)),
        Step("grid", ("--workdir=grid", *cells, *given, "--config.folds=0"), ("grid",)),
        Step("phantom", ("--cases=cases", "--patients=2", "--seed=100"), ("cases",)),
        Step(
            "predict",
            ("--checkpoint=run", "--input=cases", "--output=predicted", "--probabilities",
             "--picture", "--page"),
            ("predicted",),
        ),
        Step("export", ("--checkpoint=run", "--output=exported"), ("exported",)),
        Step("report", ("--workdir=run",), ("run/report",)),
    ]  # fmt: skip


def start(step: Step, folder: Path) -> subprocess.Popen[bytes]:
    """Starts a command in a folder; its output goes to a log beside the folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(folder / "cache"),
        MARK: str(folder),
    }
    log = (folder.parent / f"{step.command}.log").open("ab")
    command = [sys.executable, "-m", f"brats_jax.{step.command}", *step.flags]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def finish(step: Step, folder: Path) -> float:
    """Runs a command to its end; seconds.

    Raises:
      SystemExit: it failed.
    """
    begin = time.monotonic()
    status = start(step, folder).wait(timeout=LONGEST_S)
    if status:
        raise SystemExit(f"{step.command} ended with {status}: see {folder.parent}")
    return time.monotonic() - begin


def storm(step: Step, folder: Path, seconds: float, kills: int, draw: random.Random) -> Count:
    """Kills a command `kills` times in a folder, and lets it end.

    Args:
      step: the command.
      folder: has the results of the commands before it.
      seconds: time of an undisturbed run.
      kills: number of kills.
      draw: source of the times.
    """
    count = Count()
    before = folder.with_name("before")
    shutil.copytree(folder, before, symlinks=True)
    whole = folder.with_name("undisturbed")
    while count.kills < kills:
        process = start(step, folder)
        try:
            status = process.wait(timeout=draw.uniform(0.0, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            count.kills += 1
            count.outlived += outliving(folder)
            continue
        if status:
            raise SystemExit(f"{step.command} ended with {status}: see {folder.parent}")
        compare(step, whole, folder, count)
        for result in step.results:
            shutil.rmtree(folder / result)
        restore(step, before, folder)
    finish(step, folder)
    compare(step, whole, folder, count)
    shutil.rmtree(before)
    return count


def restore(step: Step, before: Path, folder: Path) -> None:
    """Copies the results of a step, as they were before it, from one folder to another."""
    for result in step.results:
        if (before / result).exists():
            shutil.copytree(before / result, folder / result, symlinks=True)


def outliving(folder: Path) -> int:
    """Number of processes of a storm that still run `OUTLIVING_S` after the command was killed."""
    deadline = time.monotonic() + OUTLIVING_S
    while (found := running(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def running(folder: Path) -> int:
    """Number of living processes with the mark of this storm."""
    mark = f"{MARK}={folder}".encode()
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            zombie = b") Z" in (process / "stat").read_bytes()
            found += not zombie and mark in (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
    return found


def compare(step: Step, whole: Path, folder: Path, count: Count) -> None:
    """Adds to `count` the differences between two folders of results."""
    count.compared += 1
    for result in step.results:
        expected, actual = digests(whole / result), digests(folder / result)
        count.differ += [name for name in expected if actual.get(name, "") != expected[name]]
        names = files(whole / result) ^ files(folder / result)
        count.left_over += [f"{result}/{name}" for name in sorted(names)]


def files(folder: Path) -> set[str]:
    """The files in a folder; of a checkpoint's own files only the folders that hold them."""
    found = set()
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        kept = next((i for i, part in enumerate(parts) if part in ("last", "best")), None)
        # TensorBoard names its files by time, and a file for each attempt is as it should be.
        if "tensorboard" not in parts:
            found.add("/".join(parts if kept is None else parts[: kept + 3]))
    return found


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file's numbers, texts and arrays; times, hosts and processes left out."""
    values: dict[str, list[tuple[str, object]]] = {}
    for name, leaf in read_folder(folder).items():
        file, _, within = name.partition(":")
        if within == NOT_COMPARED:
            continue
        values.setdefault(file, []).append((within, leaf))
    return {file: _digest(leaves) for file, leaves in values.items()}


def _digest(leaves: list[tuple[str, object]]) -> str:
    digest = hashlib.sha256()
    for name, leaf in sorted(leaves, key=lambda item: item[0]):
        is_array = isinstance(leaf, np.ndarray)
        digest.update(f"{name}={leaf.dtype}{leaf.shape}".encode() if is_array else b"")  # type: ignore[attr-defined]
        digest.update(leaf.tobytes() if is_array else json.dumps([name, leaf]).encode())  # type: ignore[attr-defined]
    return digest.hexdigest()


def show(name: str, count: Count) -> None:
    """Prints the outcome of a command, and the first of its differences."""
    print(
        f"{name:<10}{count.kills:>4} kills, {count.compared} results compared, "
        f"{len(count.differ)} differ, {len(count.left_over)} files left over or gone, "
        f"{count.outlived} processes outlived it",
        flush=True,
    )
    for line in [*count.differ, *count.left_over][:5]:
        print(f"    {line}", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="to keep results and logs in; new")
    parser.add_argument("--commands", help="only these, comma separated; the others run once")
    arguments = parser.parse_args(argv)
    logging.set_verbosity(logging.ERROR)  # of Orbax, which notes that it only reads
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        whole, disturbed = folder / "undisturbed", folder / "disturbed"
        for path in (whole, disturbed):
            path.mkdir(parents=True)
        draw, counts = random.Random(arguments.seed), {}
        chosen = (arguments.commands or ",".join(s.command for s in steps())).split(",")
        left = arguments.kills
        for step in steps():
            finish(step, whole)
            # The time with compiled programs at hand, as every attempt but the first has them.
            shutil.copytree(whole, folder / "timed", symlinks=True)
            for result in step.results:
                shutil.rmtree(folder / "timed" / result)
            restore(step, disturbed, folder / "timed")
            seconds = finish(step, folder / "timed")
            shutil.rmtree(folder / "timed")
            share = 0
            if step.command in chosen:
                share = left // (len(chosen) - chosen.index(step.command))
                left -= share
            counts[step.command] = storm(step, disturbed, seconds, share, draw)
            show(step.command, counts[step.command])
    print(f"{sum(count.kills for count in counts.values())} kills; {measure.where()}")
    sys.exit(0 if all(count.sound for count in counts.values()) else 1)


if __name__ == "__main__":
    main()
