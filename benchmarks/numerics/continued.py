"""Compares bfloat16 with float32 when both continue the training of the same float32 network.

    python benchmarks/numerics/continued.py  # takes hours on two cores
    python benchmarks/numerics/continued.py --seeds=6 --width=16 --steps=2000 --patients=200 \
        --folder=RUNS
    python benchmarks/numerics/continued.py --start=own  # each type continues its own run
    python benchmarks/numerics/continued.py --show A/continued.jsonl B/continued.jsonl

`precision.py` compares whole trainings. Short trainings vary by chance in the step at which they
learn a rare class, in either type. This script removes that variation: it takes the best checkpoint
of a float32 training with the same arguments, resets Adam's moments, halves the initial learning
rate, and trains for half as many further steps in each type, on the same patches. It repeats this
with other patches (--continuations). Printed are the paired differences in Dice and, for scale, the
standard deviation that other patches cause in float32. Dice is measured on phantoms that no run was
trained on: the test set and the --unseen phantoms.

With --start=own bfloat16 continues a training in bfloat16: a comparison of whole, longer trainings.
Results are kept in RUNS/continued.jsonl and are not measured again; --show joins such files from
parallel runs.
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
from brats_jax.data.selection import select_slices
from brats_jax.data.splits import Split, Splits, fold_split
from brats_jax.data.store.reader import Store
from brats_jax.evaluation import scoring
from brats_jax.evaluation.rows import rows_of
from brats_jax.experiments import experiment
from brats_jax.experiments.config import parse, segmentation, train_options
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs.folder import RunFolder, StageFolder
from brats_jax.runtime import devices
from brats_jax.runtime.document import read_document
from brats_jax.training.trainer import Stage

SCORES = measure.Record("continued *", **dict.fromkeys(TYPES, list), text=str)
Dice = dict[str, float]  # by class
Done = dict[tuple[str, str, int], Dice]  # by run, type and number of the continuation
CLASSES = ("WT", "TC", "NCR/NET", "ED", "ET", FOREGROUND)


class Start:
    """A trained run, the starting point of continuations.

    Args:
      config: the configuration of the run.
      run: its folder; the constructor trains the run if it is not complete.
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
        # In host memory, because a training donates the buffers of its initial weights.
        self.weights = jax.device_get((found.params, found.stats))

    def continue_in(self, dtype: str, number: int, directory: Path) -> Dice:
        """Trains for half as many further steps; returns Dice by class.

        `number` selects the patches.
        """
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
            settings = (config.evaluation.batch_size, config.evaluation.tolerance_mm)
            _, scores = scoring.score(restored, store, slices, *settings, "")
            found.append(test_numbers(rows_of("segment", scores), ""))
        return {name: float(np.mean([x[f" Dice {name}"] for x in found])) for name in CLASSES}


def read(kept: Path) -> Done:
    """The results in a file."""
    lines = map(json.loads, kept.read_text().splitlines())
    return {(x["run"], x["type"], x["number"]): x["dice"] for x in lines}


def pairs_of(done: Done, start: str) -> dict[str, dict[tuple[str, int], Dice]]:
    """By type, then by seed and number: the results that exist for both types.

    `start`: 'float32' or 'own', see the arguments.
    """
    found: dict[str, dict[tuple[str, int], Dice]] = {dtype: {} for dtype in TYPES}
    for (run, dtype, number), dice in done.items():
        run_dtype, seed = run.rsplit("_", 1)
        if run_dtype == (dtype if start == "own" else "float32"):
            found[dtype][(seed, number)] = dice
    both = set.intersection(*(set(results) for results in found.values()))
    return {dtype: {key: results[key] for key in sorted(both)} for dtype, results in found.items()}


def show(done: Done, start: str) -> None:
    """Prints the differences between the types, and the spread over patches in float32."""
    numbers = pairs_of(done, start)
    print(
        f"{'Dice':<16} float32   bfloat16 minus float32 (2 s.e.)   sd of a pair, of other patches"
    )
    for name in CLASSES:
        dice = {t: {k: v[name] for k, v in found.items()} for t, found in numbers.items()}
        pairs = np.array([dice["bfloat16"][k] - dice["float32"][k] for k in dice["bfloat16"]])
        # The spread over patches within each run excludes the differences between runs.
        runs = {run for run, _ in dice["float32"]}
        within = [[v for (r, _), v in dice["float32"].items() if r == run] for run in runs]
        squares = sum(np.sum(np.square(np.array(v) - np.mean(v))) for v in within)
        freedom = sum(len(v) - 1 for v in within)
        spread = f"{np.sqrt(squares / freedom):.4f}" if freedom else "-"
        mean = np.mean(list(dice["float32"].values()))
        deviation = np.std(pairs, ddof=1) if len(pairs) > 1 else np.nan
        error = 2 * deviation / np.sqrt(len(pairs))
        print(
            f"{name:<16} {mean:.4f}   {np.mean(pairs):+.4f} ({error:.4f}), {len(pairs)} pairs   "
            f"{deviation:.4f}, {spread}"
        )
        by_type = {t: list(v.values()) for t, v in dice.items()}
        SCORES.keep(f"continued {name}", **by_type, text=precision.difference(by_type))


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = precision.parser()
    parser.description = __doc__.splitlines()[0]
    parser.add_argument("--start", choices=("float32", "own"), default="float32")
    parser.add_argument(
        "--continuations", type=int, default=2, help="continuations of each run in each type"
    )
    parser.add_argument(
        "--show", type=Path, nargs="+", help="print the results of these files and exit"
    )
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
                run_dtype = dtype if arguments.start == "own" else "float32"
                key = (f"{run_dtype}_{seed}", dtype, number)
                if key in done:
                    continue
                directory = root / f"continued_{number}_{dtype}"
                shutil.rmtree(directory, ignore_errors=True)
                if start is None or start.run != root / key[0]:
                    config = precision.configured(arguments, root / "store", run_dtype, seed)
                    start = Start(config, root / key[0], unseen)
                done[key] = start.continue_in(dtype, number, directory)
                line = {"run": key[0], "type": dtype, "number": number, "dice": done[key]}
                with kept.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            show(done, arguments.start)
    print(
        f"  {arguments.steps // 2} steps after {arguments.steps}, {arguments.seeds} runs; width "
        f"{arguments.width}, batch 4, {arguments.patients} phantoms of {arguments.shape}, "
        f"normalised by {arguments.normalisation}\n  {measure.where()}"
    )


if __name__ == "__main__":
    main()
