"""Odd flags, damaged inputs and poor surroundings for every command; see `fuzz.py`."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.reliability import mutations

ROOT = Path(__file__).parents[2]
SECONDS = 300  # of one command
# Networks of one block a stage, as in the tests: nothing here depends on their depth.
_START = (
    "import runpy, sys; from brats_jax.models import resnet; resnet.BLOCKS = (1, 1, 1, 1); "
    "runpy.run_module('brats_jax.' + sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
# As for a user without an entry in the list of users, in a container.
_WITHOUT_USER = """
import pwd
def unknown(*_):
    raise KeyError("uid not found")
pwd.getpwuid = pwd.getpwnam = unknown
"""
ODD_VALUES = (
    *("", " ", "nan", "inf", "-inf", "-1", "0", "1e400", "9" * 4400, str(10**30), "1.5", "x"),
    *("a" * 300, "a/" * 3000, "/proc/none/below", "/dev/null", "/dev/null/below", "~", "--", "="),
    *("=1+1", "a\x1b[2Jb", "\u202eabc", "caf\xe9", "1,2", ",", "1,,2", "None", "true", "[1]"),
)


@dataclass
class Outcome:
    """What became of the commands.

    Attributes:
      done, refused: ended with status 0; with one line.
      failures: (command line, what was wrong).
      slowest: seconds.
    """

    done: int = 0
    refused: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    slowest: float = 0.0


@dataclass(frozen=True)
class Example:
    """A folder with inputs and outputs of every command, and files of a user among them."""

    folder: Path

    def commands(self) -> list[tuple[str, list[str]]]:
        """Valid command lines; each is fast, because it has little to do."""
        f = self.folder
        tiny = [f"--config={ROOT}/tests/tiny_config.py", f"--config.data.store={f}/store"]
        run = f"--checkpoint={f}/run/fold_0"
        phantom = ["--patients=1", "--seed=0", "--shape=16,32,32"]
        return [
            ("prepare", [f"--source={f}/cases", f"--store={f}/prepared", "--workers=1"]),
            ("prepare", ["--source=phantom", *phantom, f"--store={f}/phantoms", "--workers=1"]),
            ("prepare", ["--verify", f"--store={f}/store"]),
            ("main", [*tiny, f"--workdir={f}/none", "--mode=evaluate", "--config.seed=0"]),
            ("main", [*tiny, f"--workdir={f}/none", "--mode=evaluate", "--config.loss=focal"]),
            ("grid", [f"--workdir={f}/grid", "--status"]),
            ("grid", [*tiny, f"--workdir={f}/store", "--seeds=0", "--shard=0/1"]),
            ("report", [f"--workdir={f}/made"]),
            (
                "predict",
                [
                    run,
                    f"--input={f}/cases",
                    f"--output={f}/out",
                    "--min_et_mm3=1",
                    "--batch_size=8",
                ],
            ),
            ("predict", [run, f"--input={f}/cases", f"--output={f}/out", "--task=segment"]),
            ("calibrate", [run, f"--store={f}/store", "--batch_size=8"]),
            ("export", [run, f"--output={f}/exported", "--slice_shape=40,32"]),
            ("phantom", [f"--cases={f}/scans", *phantom]),
        ]

    def inputs(self) -> list[Path]:
        """Files that a command reads, which may be damaged."""
        found = [*self.folder.glob("run/**/*"), *self.folder.glob("made/**/*")]
        found += [*self.folder.glob("cases/**/*"), *self.folder.glob("store/**/*")]
        return sorted(p for p in found if p.is_file() and ".mine." not in p.name)


def make_example(folder: Path) -> Example:
    """Writes the example; a file MINE.mine.txt of a user stands in every folder of it."""
    sys.path.insert(0, str(ROOT / "tests"))
    import brats_files
    import prediction_examples
    from report_examples import write_run

    with prediction_examples.shallow():
        prediction_examples.make_run(brats_files, folder, normalisation="volume")
    write_run(folder / "made", folds=(0,))
    for name in ("out", "exported", "scans", "grid", "made/report"):
        (folder / name).mkdir(exist_ok=True)
    for path in [p for p in folder.rglob("*") if p.is_dir()]:
        if not {"best", "last"} & {*path.parts} and path != folder / "store" / "cases":
            (path / "own.mine.txt").write_text(f"of the user, {path.name}")
    (folder / "made" / "report" / "thesis.mine.tex").write_text("of the user")
    (folder / "out" / "volumes.csv").write_text("of the user\n")
    return Example(folder)


def fuzz(count: int, seed: int, report: Callable[[str], object] = print) -> int:
    """Runs `count` mutated command lines; prints a summary; returns the number of failures."""
    rng = np.random.default_rng([seed, 99])
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        make_example(whole)
        Path(folder).chmod(0o755)
        cache = Path(folder) / "cache"
        for number in range(count):
            place = Path(folder) / "here"
            shutil.copytree(whole, place, copy_function=os.link)
            _unlink_writable(place)
            try:
                _run_one(Example(place), rng, outcome, cache, number)
            finally:
                shutil.rmtree(place, ignore_errors=True)
    report(
        f"\n{count} command lines: {outcome.done} done, {outcome.refused} refused in one line, "
        f"{len(outcome.failures)} failures; slowest {outcome.slowest:.0f} s; seed {seed}"
    )
    for line, problem in outcome.failures:
        report(f"FAILED {line[:300]}: {problem}")
    return len(outcome.failures)


def _unlink_writable(place: Path) -> None:
    """Makes copies of the files that a command may write to, which are links until here."""
    for path in place.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            path.unlink()
            path.write_bytes(data)


@dataclass
class Attempt:
    """A command line that is tried once.

    Attributes:
      command, arguments: of the program.
      environment: of the process.
      limit: shell words before it.
      program: Python code that starts the command.
    """

    command: str
    arguments: list[str]
    environment: dict[str, str]
    limit: str = ""
    program: str = _START

    @property
    def line(self) -> str:
        """The command line, for messages."""
        return f"{self.limit}{self.command} {' '.join(a[:80] for a in self.arguments)}"


def _mutated(example: Example, rng: np.random.Generator, cache: Path) -> Attempt:
    """A valid command line with an odd flag, a damaged input, or poor surroundings."""
    command, arguments = example.commands()[rng.integers(0, len(example.commands()))]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    attempt = Attempt(command, arguments, environment)
    kind = rng.integers(0, 6)
    if kind <= 2:  # a flag
        at = int(rng.integers(0, len(arguments)))
        name = arguments[at].partition("=")[0]
        value = ODD_VALUES[rng.integers(0, len(ODD_VALUES))].replace("~", f"{example.folder}/~")
        arguments[at] = name if rng.integers(0, 8) == 0 else f"{name}={value}"
    elif kind == 3:  # a damaged or missing input
        files = example.inputs()
        path = files[rng.integers(0, len(files))]
        data, _ = mutations.mutate(path, path.read_bytes(), rng)
        path.unlink()
        if rng.integers(0, 4):
            path.write_bytes(data)
    elif kind == 4:  # a small limit on the size of files
        attempt.limit = f"ulimit -f {int(rng.integers(0, 32))}; "
    else:  # no home, an unknown user, a cache that cannot be written
        environment.pop("HOME", None)
        environment["XDG_CACHE_HOME"] = "/proc/none"
        attempt.program = _WITHOUT_USER + _START
    return attempt


def _run_one(
    example: Example, rng: np.random.Generator, outcome: Outcome, cache: Path, number: int
) -> None:
    """Runs one mutated command line and adds what became of it to `outcome`."""
    attempt = _mutated(example, rng, cache)
    before = _own_files(example.folder)
    line = f"{number}: {attempt.line}"
    started = time.monotonic()
    start = (
        *("bash", "-c", f'{attempt.limit}exec "$@"', "-"),
        *(sys.executable, "-c", attempt.program),
    )
    try:
        ended = subprocess.run(
            [*start, attempt.command, *attempt.arguments],
            cwd=example.folder, capture_output=True, text=True, errors="replace",
            env=attempt.environment, timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        outcome.failures.append((line, f"more than {SECONDS} s"))
        return
    except (ValueError, OSError):  # the system takes no such argument
        outcome.refused += 1
        return
    outcome.slowest = max(outcome.slowest, time.monotonic() - started)
    problem = _problem(ended, before, _own_files(example.folder))
    if problem:
        outcome.failures.append((line, problem))
    elif ended.returncode:
        outcome.refused += 1
    else:
        outcome.done += 1


def _own_files(folder: Path) -> dict[str, str]:
    """The hashes of the user's files."""
    paths = [*folder.rglob("*.mine.*"), folder / "out" / "volumes.csv"]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.is_file()
    }


def _problem(
    ended: subprocess.CompletedProcess[str], before: Mapping[str, str], after: Mapping[str, str]
) -> str:
    """What is wrong with the end of a command; '' if nothing is."""
    lost = [name for name, digest in before.items() if after.get(name) != digest]
    if lost:
        return f"lost or changed {lost[0]}"
    if "Traceback" in ended.stderr or "unexpected" in ended.stderr:
        return ended.stderr[-300:]
    if "\x1b" in ended.stdout + ended.stderr or "\u202e" in ended.stdout + ended.stderr:
        return "an escape sequence on the terminal"
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    if ended.returncode < 0:
        return f"signal {-ended.returncode}: {ended.stderr[-200:]}"
    if ended.returncode and not errors:
        return f"status {ended.returncode} without a line: {ended.stderr[-200:]}"
    if ended.returncode and len(errors) > 1 and not all(": case " in e[:12] for e in errors):
        return f"{len(errors)} lines: {ended.stderr[-200:]}"
    return ""
