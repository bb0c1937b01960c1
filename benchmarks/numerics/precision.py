"""Compares whole trainings in bfloat16 and in float32, by validation metrics and test Dice.

    python benchmarks/numerics/precision.py  # three seeds, minutes on two cores
    python benchmarks/numerics/precision.py --seeds=5 --width=16 --steps=2000
    python benchmarks/numerics/precision.py --seeds=5 --first_seed=5      # five other seeds
    python benchmarks/numerics/precision.py --float32_epochs=1  # the default of configs/base.py

For each seed the program trains both stages (configs/demo.py with a narrow network) on small
phantoms, once in each type, with the same initialisation and the same patches in the same order.
Parameters, statistics and losses are float32 in both; the type of the activations differs, by
default from the first step on. On a CPU bfloat16 is emulated and slow.

For each metric the table has the mean over seeds in each type, the differences bfloat16 minus
float32 by seed, their mean and two standard errors. The metrics are the best validation value and
the last training loss of each stage, Dice (present-only) and MSE of the test set, Dice of unseen
phantoms, and "other type minus own": the Dice of the same weights evaluated in the other type minus
that in their own type, which isolates inference from training.
"""

import argparse
import runpy
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from benchmarks import measure
from brats_jax.data.selection import select_slices
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.evaluation import scoring
from brats_jax.evaluation.rows import rows_of
from brats_jax.experiments import experiment
from brats_jax.experiments.config import parse, segmentation
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs.documents import Evaluation, Score, StageResult
from brats_jax.runs.folder import FoldFolder, RunFolder
from brats_jax.runs.metrics_jsonl import read_metrics
from brats_jax.runtime import devices
from brats_jax.runtime.document import read_document

BASE = Path(__file__).parents[2] / "configs" / "demo.py"
TYPES = ("float32", "bfloat16")
UNSEEN, FOREGROUND = "unseen", "mean foreground"
SCORES = measure.Record("precision *", **dict.fromkeys(TYPES, list), text=str)


def configured(arguments: argparse.Namespace, store: Path, dtype: str, seed: int) -> ConfigDict:
    """The configuration of one run."""
    config = runpy.run_path(str(BASE))["get_config"]()
    config.data.store = str(store)
    config.data.num_folds = 3
    config.data.test_fraction = 0.25
    config.data.patch_size = arguments.patch
    config.model.width = arguments.width
    config.dtype, config.seed = dtype, seed
    config.train.float32_epochs = arguments.float32_epochs
    config.optim.learning_rate = arguments.learning_rate
    config.evaluation.slices = "tumour"
    config.evaluation.panels = 0
    for stage, steps in (("pretrain", arguments.pretrain_steps), ("segment", arguments.steps)):
        config[stage].epochs = arguments.epochs
        config[stage].steps_per_epoch = steps // arguments.epochs
    return config


def train(
    arguments: argparse.Namespace,
    store: Path,
    unseen: Store,
    workdir: Path,
    dtype: str,
    seed: int,
) -> dict:
    """Trains one run and returns its metrics by name."""
    config = configured(arguments, store, dtype, seed)
    experiment.run(config, workdir)
    fold = RunFolder(workdir).fold(0)
    found = {}
    for name in ("pretrain", "segment"):
        stage = fold.stage(name)
        found[f"validation {name}"] = read_document(stage.complete_json, StageResult).best
        losses = [x["loss"] for x in read_metrics(stage.metrics_jsonl) if x["event"] == "train"]
        found[f"train loss {name}"] = losses[-1]
    found |= test_numbers(read_document(fold.evaluation_json, Evaluation).rows, "test")
    own = dice_in(config, fold, unseen, dtype)
    other = dice_in(config, fold, unseen, TYPES[1 - TYPES.index(dtype)])
    compared = f"{UNSEEN} Dice {FOREGROUND}"
    return {**found, **own, "other type minus own": other[compared] - own[compared]}


def dice_in(config: ConfigDict, fold: FoldFolder, store: Store, dtype: str) -> dict[str, float]:
    """Dice by class of a store's tumour slices, with the fold's model evaluated in `dtype`."""
    config = config.copy_and_resolve_references()
    config.dtype = dtype
    task = segmentation(parse(config))
    restored = RestoredNetwork(task, fold.stage("segment"), devices.data_mesh())
    slices = select_slices(store, np.arange(store.num_slices), "tumour")
    options = (config.evaluation.batch_size, config.evaluation.tolerance_mm)
    _, scores = scoring.score(restored, store, slices, *options, "")
    return test_numbers(rows_of("segment", scores), UNSEEN)


def test_numbers(rows: Iterable[Score], of: str) -> dict[str, float | None]:
    """Dice by class and the MSE of pretraining, from the rows of an evaluation."""
    found = {}
    for row in rows:
        if row.unit != "slice":
            continue
        if row.metric == "mse" and f"{of} MSE" not in found:  # the first row is of whole slices
            found[f"{of} MSE"] = row.mean
        if row.metric == "dice" and row.convention == "present_only":
            found[f"{of} Dice {row.of}"] = row.mean
    return found


def phantoms(arguments: argparse.Namespace, root: Path) -> Store:
    """Prepares the phantoms of the runs in `root`/store; returns a store of unseen phantoms."""
    shape = [int(size) for size in arguments.shape.split(",")]
    for name, patients, seed in (
        ("store", arguments.patients, 0),
        ("unseen", arguments.unseen, 1),
    ):
        options = {"normalisation": arguments.normalisation, "patients": patients}
        prepare("phantom", root / name, seed=seed, shape=shape, **options)
    return Store.open(root / "unseen")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--steps", type=int, default=600, help="steps of the segmentation")
    parser.add_argument("--pretrain_steps", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--float32_epochs", type=int, default=0, help="train.float32_epochs")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--unseen", type=int, default=64, help="further phantoms, only for testing")
    parser.add_argument("--shape", default="32,64,64", help="slices,H,W of a patient")
    parser.add_argument("--normalisation", choices=("slice", "volume"), default="volume")
    parser.add_argument(
        "--folder", type=Path, help="keep the runs here and continue them; default: temporary"
    )
    return parser


def difference(by_type: dict[str, list[float]]) -> str:
    """'-0.0010 (0.0020), 4 pairs': mean of bfloat16 minus float32, two standard errors."""
    pairs = np.subtract(by_type["bfloat16"], by_type["float32"])
    error = 2 * pairs.std(ddof=1) / np.sqrt(len(pairs)) if len(pairs) > 1 else np.nan
    return f"{pairs.mean():+.4f} ({error:.4f}), {len(pairs)} pairs"


def main() -> None:
    arguments = parser().parse_args()
    logging.set_verbosity(logging.ERROR)
    devices.keep_freed_memory()
    numbers: dict[str, list[dict[str, float]]] = {dtype: [] for dtype in TYPES}
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folder or Path(temporary)
        unseen = phantoms(arguments, root)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            for dtype in TYPES:
                workdir = root / f"{dtype}_{seed}"
                numbers[dtype].append(
                    train(arguments, root / "store", unseen, workdir, dtype, seed)
                )
            for name in numbers["float32"][0]:  # after each seed, in case the process is stopped
                by_type = {t: [run[name] for run in numbers[t]] for t in TYPES}
                SCORES.keep(f"precision {name}", **by_type, text=difference(by_type))
    print(
        f"{'':<28}{'float32':>20}{'bfloat16':>20}   bfloat16 minus float32 by seed: mean (2 s.e.)"
    )
    for name in numbers["float32"][0]:
        plain, half = (np.array([run[name] for run in numbers[dtype]]) for dtype in TYPES)
        differences = ", ".join(f"{x:+.4f}" for x in half - plain)
        if arguments.seeds > 1:
            error = 2 * np.std(half - plain, ddof=1) / np.sqrt(arguments.seeds)
            differences += f": {np.mean(half - plain):+.4f} ({error:.4f})"
        columns = "".join(f"{np.mean(x):13.4f} ({np.std(x):.4f})" for x in (plain, half))
        print(f"{name:<28}{columns}   {differences}")
    print(
        f"  mean (sd) of {arguments.seeds} seeds; width {arguments.width}, "
        f"{arguments.pretrain_steps} and {arguments.steps} steps of batch 4, "
        f"{arguments.patients} phantoms of {arguments.shape}, normalised by "
        f"{arguments.normalisation}\n"
        f"  {measure.where()}"
    )


if __name__ == "__main__":
    main()
