"""Rows of an experiment: trainings that differ in a few settings; for ablations.py and missing.py.

The two share their arguments, the commands of the rows, how many rows train at the same time, and
which trainings make a row of the table.
"""

import argparse
import os
import queue
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import measure
from brats_jax.reporting.arms import Arm, EvaluatedStage, collect
from brats_jax.reporting.read_runs import discover
from brats_jax.reporting.statistics import PairedDifference
from brats_jax.runs.documents import StageResult
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_document

ROOT = Path(__file__).parents[1]
BASE = "base"
REGIONS = ("WT", "TC", "ET")

Settings = Mapping[str, Sequence[str]]  # row -> its settings, without 'config.'


def folder_name(name: str, seed: int) -> str:
    """'all_slices-seed_0'."""
    return f"{name.lower().replace(' ', '_')}-seed_{seed}"


def command(name: str, seed: int, rows: Settings, arguments: argparse.Namespace) -> list[str]:
    """The training and evaluation of all folds of one row and seed."""
    settings = (
        f"data.store={arguments.store}",
        "ssl=false",
        "data.test_fraction=0",
        f"data.num_folds={arguments.num_folds}",
        f"folds={','.join(map(str, arguments.folds))},",
        f"seed={seed}",
        *rows[name],
        *arguments.settings,
    )
    return [
        *(sys.executable, "-m", "brats_jax.main", f"--config={arguments.config}"),
        f"--workdir={arguments.output / folder_name(name, seed)}",
        *(f"--config.{setting}" for setting in settings),
    ]


def train(arguments: argparse.Namespace) -> None:
    """All chosen rows and seeds, `at_once` at a time, each on its share of the CPU cores.

    Ends the command if one of them fails, after the others.
    """
    arguments.output.mkdir(parents=True, exist_ok=True)
    cores = sorted(os.sched_getaffinity(0))
    shares: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for i in range(arguments.at_once):
        shares.put(cores[i :: arguments.at_once])

    def one(name: str, seed: int) -> str | None:
        """The error, if there was one."""
        share = shares.get()
        os.sched_setaffinity(0, share)  # of this thread; the command inherits it
        log = arguments.output / f"{folder_name(name, seed)}.log"
        print(f"{name}, seed {seed} (log: {log})", flush=True)
        with log.open("a") as file:
            done = subprocess.run(
                command(name, seed, arguments.rows, arguments),
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        shares.put(share)
        if done.returncode:
            return f"error: {name}, seed {seed} failed; the last lines of {log} say why"
        return None

    with ThreadPoolExecutor(arguments.at_once) as pool:
        pairs = [(name, seed) for seed in arguments.seeds for name in arguments.names]
        errors = [error for error in pool.map(lambda pair: one(*pair), pairs) if error]
    if errors:
        sys.exit("\n".join(errors))


def evaluated(arguments: argparse.Namespace) -> dict[str, list[tuple[Arm, EvaluatedStage]]]:
    """By row its evaluated trainings, by seed and fold; rows with all of them, in order."""
    by_run: dict[str, list[tuple[Arm, EvaluatedStage]]] = {}
    for arm, group in collect(discover(arguments.output)).arms.items():
        for one in group:
            if one.fold in arguments.folds:
                by_run.setdefault(one.run.name, []).append((arm, one))
    found = {}
    for name in arguments.names:
        runs = [folder_name(name, seed) for seed in arguments.seeds]
        trainings = [training for run in runs for training in by_run.get(run, [])]
        if len(trainings) == len(runs) * len(arguments.folds):
            found[name] = trainings
    return found


def training_seconds(name: str, arguments: argparse.Namespace) -> list[float]:
    """The time of each training of a row, by seed and fold."""
    return [
        read_document(
            RunFolder(arguments.output / folder_name(name, seed))
            .fold(fold)
            .stage("segment")
            .complete_json,
            StageResult,
        ).seconds
        for seed in arguments.seeds
        for fold in arguments.folds
    ]


def gain_words(difference: PairedDifference) -> str:
    """'+0.012 (-0.003 to +0.027)'."""
    low, high = difference.low, difference.high
    return f"{difference.mean_difference:+.3f} ({low:+.3f} to {high:+.3f})"


def write_table(lines: Sequence[str], patients: int, arguments: argparse.Namespace) -> None:
    """Prints the table with what its numbers are, and writes it to OUTPUT/table.md."""
    sentence = (
        f"3D Dice (an absent region counts as in BraTS 2020), mean over {patients} patients, each "
        f"tested once for each of {len(arguments.seeds)} seeds by cross-validation with "
        f"{len(arguments.folds)} of {arguments.num_folds} folds; {arguments.config} without "
        "pretraining. The interval of a gain holds the spread between patients and, from five "
        "folds on, between folds. Time: of the training, as a ratio; it depends on the load."
    )
    text = "\n".join([*lines, "", sentence, "", measure.where()])
    (arguments.output / "table.md").write_text(text + "\n")
    print(text)


def parser(description: str, rows: Settings, config: str) -> argparse.ArgumentParser:
    """The arguments that the experiments share; `config` is the default of --config."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    found.add_argument("--store", type=Path, required=True)
    found.add_argument("--output", type=Path, required=True)
    found.add_argument("--config", default=config)
    found.add_argument("--num_folds", type=int, default=5, help="parts of the patients")
    found.add_argument("--folds", default="", help="which of them, with commas; default: all")
    found.add_argument("--seeds", default="0", help="numbers with commas")
    found.add_argument("--only", default="", help=f"of {', '.join(rows)}; with commas")
    found.add_argument(
        "--row", nargs="+", action="append", default=[], help="a row of your own: NAME SETTING ..."
    )
    found.add_argument("--against", default=BASE, help="the row that gains are over")
    found.add_argument("--at_once", type=int, default=1, help="rows that train at the same time")
    found.add_argument("--settings", nargs="*", default=[], help="of all rows: model.width=32 ...")
    return found


def parse(parser: argparse.ArgumentParser, rows: Settings) -> argparse.Namespace:
    """The checked arguments.

    `rows` has all rows with those of the user's own, `names` the chosen ones, the base first.
    """
    arguments = parser.parse_args()
    own = {name: tuple(settings) for name, *settings in arguments.row}
    taken = {folder_name(name, 0) for name in rows}
    for name, *_ in arguments.row:
        if folder_name(name, 0) in taken:
            parser.error(
                f"--row: there is a row {name!r} already, or one whose folder has this name; give "
                "another name"
            )
        taken.add(folder_name(name, 0))
    arguments.rows = rows = {**rows, **own}
    arguments.seeds = _numbers(arguments.seeds)
    arguments.folds = _numbers(arguments.folds) or list(range(arguments.num_folds))
    chosen = [name.strip() for name in arguments.only.split(",") if name.strip()]
    chosen = [*(chosen or rows), *own] if own else chosen
    if unknown := sorted({*chosen} - {*rows}):
        parser.error(f"no row is called {unknown[0]!r}; there are {', '.join(rows)}")
    arguments.names = list(dict.fromkeys((BASE, *(chosen or rows))))
    if arguments.against not in arguments.names:
        parser.error(f"--against={arguments.against}: not one of the rows")
    if not 1 <= arguments.at_once <= len(os.sched_getaffinity(0)):
        parser.error(
            f"--at_once={arguments.at_once}: 1 to {len(os.sched_getaffinity(0))} CPU cores"
        )
    arguments.store, arguments.output = arguments.store.resolve(), arguments.output.resolve()
    return arguments


def _numbers(words: str) -> list[int]:
    return [int(word) for word in words.split(",") if word]
