"""bfloat16 keeps up with float32: networks trained in float32 go on in either type, to test Dice.

    python benchmarks/numerics/continued.py  # LONG on two cores
    python benchmarks/numerics/continued.py --seeds=6 --width=16 --steps=2000 --patients=200 \
        --folder=RUNS
    python benchmarks/numerics/continued.py --start=own  # each type from its own run
    python benchmarks/numerics/continued.py --show A/continued.jsonl B/continued.jsonl

What `precision.py` compares are whole trainings, and short ones differ by when they begin to see a
class that is rare, whatever they compute in. Here a float32 training of that kind, with the same
arguments, is taken up where it was best, with Adam's moments at zero and a learning rate half as
large as it began with, and goes on for half as many steps, in each type on the same further
patches, several times on different ones. Beside the paired differences stands what other patches
do, in float32. All are judged by phantoms that no run has seen: the test set and `--unseen` others.
With --start=own bfloat16 goes on from a training in bfloat16: whole trainings, but longer ones.
What is measured is kept in RUNS/continued.jsonl and not measured again; --show joins such files, of
calls that ran beside each other.
"""

import argparse
import dataclasses
import itertools
import json
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from benchmarks import measure
from benchmarks.numerics import precision
from benchmarks.numerics.precision import FOREGROUND, TYPES, test_numbers
from brats_jax.data.splits import Split, Splits, fold_split, select_slices
from brats_jax.data.store.reader import Store
from brats_jax.evaluation import scoring
from brats_jax.evaluation.rows import rows_of
from brats_jax.experiments import experiment
from brats_jax.experiments.config import parse, segmentation, train_options
from brats_jax.inference.restored import RestoredNetwork
from brats_jax.runs.folder import RunFolder, StageFolder
from brats_jax.runtime import devices
from brats_jax.runtime.document import read_document
from brats_jax.training.trainer import Stage

SCORES = measure.Record("continued *", **dict.fromkeys(TYPES, list), text=str)
Dice = dict[str, float]  # by class
Done = dict[tuple[str, str, int], Dice]  # by run, type, number
JUDGED = ("WT", "TC", "NCR/NET", "ED", "ET", FOREGROUND)


class Start:
    """A trained run, to go on from.

    Args:
      config: its settings.
      run: its folder; what is not yet trained there is.
      unseen: phantoms that it is not trained on.
    """

    def __init__(self, config: ConfigDict, run: Path, unseen: Store) -> None:
        experiment.run(config, run)
        self.run = run
        self.config, self.unseen, self.mesh = config, unseen, devices.training_mesh()
        self.store = Store.open(Path(config.data.store))
        splits = read_document(RunFolder(run).splits_json, Splits)
        self.split: Split = fold_split(splits, self.store, 0)
        found = RestoredNetwork(
            segmentation(parse(config)), RunFolder(run).fold(0).stage("segment"), self.mesh
        )
        # On the host: a training donates what it starts from.
        self.weights = jax.device_get((found.params, found.stats))

    def go_on(self, dtype: str, number: int, directory: Path) -> Dice:
        """Dice by class after half as many steps more; `number` chooses the patches."""
        config = self.config.copy_and_resolve_references()
        config.dtype = dtype
        task = segmentation(parse(config))
        options = train_options(parse(config), "segment", 0)
        options = dataclasses.replace(
            options,
            seed=1000 * (number + 1) + options.seed,
            steps_per_epoch=max(1, options.steps_per_epoch // 2),
            learning_rate=options.learning_rate / 2,
            float32_epochs=0,
        )
        sets = (self.split.train, self.split.validation)
        Stage(
            task,
            self.store,
            *(select_slices(self.store, indices, "tumour") for indices in sets),
            options,
            StageFolder(directory),
            self.mesh,
            initialise=lambda params, stats: self.weights,
        ).run()
        restored = RestoredNetwork(task, StageFolder(directory), self.mesh)
        every = np.arange(self.unseen.num_slices)
        found = []
        for store, indices in ((self.store, self.split.test), (self.unseen, every)):
            slices = select_slices(store, indices, "tumour")
            of = (config.evaluation.batch_size, config.evaluation.tolerance_mm)
            _, scores = scoring.score(restored, store, slices, *of, "")
            found.append(test_numbers(rows_of("segment", scores), ""))
        return {name: float(np.mean([x[f" Dice {name}"] for x in found])) for name in JUDGED}


def read(kept: Path) -> Done:
    """What a file holds."""
    lines = map(json.loads, kept.read_text().splitlines())
    return {(x["run"], x["type"], x["number"]): x["dice"] for x in lines}


def pairs_of(done: Done, start: str) -> dict[str, dict[tuple[str, int], Dice]]:
    """By type, and seed and number, what both types have; for `start` see the arguments."""
    found: dict[str, dict[tuple[str, int], Dice]] = {dtype: {} for dtype in TYPES}
    for (run, dtype, number), dice in done.items():
        of, seed = run.rsplit("_", 1)
        if of == (dtype if start == "own" else "float32"):
            found[dtype][(seed, number)] = dice
    both = set.intersection(*(set(of) for of in found.values()))
    return {dtype: {key: of[key] for key in sorted(both)} for dtype, of in found.items()}


def show(done: Done, start: str) -> None:
    """Prints what the types do, and what the patches do in float32."""
    numbers = pairs_of(done, start)
    print(
        f"{'Dice':<16} float32   bfloat16 minus float32 (2 s.e.)   sd of a pair, of other patches"
    )
    for name in JUDGED:
        of = {t: {k: v[name] for k, v in found.items()} for t, found in numbers.items()}
        pairs = np.array([of["bfloat16"][k] - of["float32"][k] for k in of["bfloat16"]])
        # Patches: the spread within each run's continuations, so that how good it was is left out.
        runs = {run for run, _ in of["float32"]}
        within = [[v for (r, _), v in of["float32"].items() if r == run] for run in runs]
        squares = sum(np.sum(np.square(np.array(v) - np.mean(v))) for v in within)
        freedom = sum(len(v) - 1 for v in within)
        spread = f"{np.sqrt(squares / freedom):.4f}" if freedom else "-"
        mean = np.mean(list(of["float32"].values()))
        deviation = np.std(pairs, ddof=1) if len(pairs) > 1 else np.nan
        error = 2 * deviation / np.sqrt(len(pairs))
        print(
            f"{name:<16} {mean:.4f}   {np.mean(pairs):+.4f} ({error:.4f}), {len(pairs)} pairs   "
            f"{deviation:.4f}, {spread}"
        )
        by_type = {t: list(v.values()) for t, v in of.items()}
        SCORES.keep(f"continued {name}", **by_type, text=precision.difference(by_type))


def parser() -> argparse.ArgumentParser:
    """Of its arguments."""
    parser = precision.parser()
    parser.description = __doc__.splitlines()[0]
    parser.add_argument("--start", choices=("float32", "own"), default="float32")
    parser.add_argument("--continuations", type=int, default=2, help="of each run and type")
    parser.add_argument("--show", type=Path, nargs="+", help="files to join; nothing is trained")
    return parser


def main() -> None:
    arguments = parser().parse_args()
    if arguments.show:
        show(
            {key: dice for kept in arguments.show for key, dice in read(kept).items()},
            arguments.start,
        )
        return
    logging.set_verbosity(logging.ERROR)
    devices.keep_freed_memory()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folder or Path(temporary)
        unseen = precision.phantoms(arguments, root)
        kept = root / "continued.jsonl"
        done = read(kept) if kept.exists() else {}
        start: Start | None = None
        for number in range(arguments.continuations):
            for seed, dtype in itertools.product(seeds, TYPES):
                of = dtype if arguments.start == "own" else "float32"
                key = (f"{of}_{seed}", dtype, number)
                if key in done:
                    continue
                directory = root / f"continued_{number}_{dtype}"
                shutil.rmtree(directory, ignore_errors=True)
                if start is None or start.run != root / key[0]:
                    config = precision.configured(arguments, root / "store", of, seed)
                    start = Start(config, root / key[0], unseen)
                done[key] = start.go_on(dtype, number, directory)
                line = {"run": key[0], "type": dtype, "number": number, "dice": done[key]}
                with kept.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            show(done, arguments.start)
    print(
        f"  {arguments.steps // 2} steps more than {arguments.steps}, {arguments.seeds} runs; "
        f"width {arguments.width}, batches of 4, {arguments.patients} phantoms of "
        f"{arguments.shape} by {arguments.normalisation}\n  {measure.where()}"
    )


if __name__ == "__main__":
    main()
