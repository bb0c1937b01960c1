r"""The parts of real.py that run brats_jax; real.py starts them.

    python benchmarks/peers/ours_real.py pace --minutes=25 --folder=DIR --document=FILE \
        --config=configs/real.py
    python benchmarks/peers/ours_real.py sets --run=RUN --fold=0 --document=FILE
    python benchmarks/peers/ours_real.py predict --run=RUN --fold=0 --cases=FILE --output=DIR \
        --document=FILE
    python benchmarks/peers/ours_real.py torch --network=twin --run=RUN --fold=0 --cases=FILE \
        --output=DIR --document=FILE --peer_python=TORCH

`pace` measures the segmentation's steps and validation and writes the number of steps of an epoch
with which the training takes so many minutes; settings follow as `--config.NAME=VALUE`. `sets`
writes the patients of a fold. `predict` predicts cases one by one, files to files. `torch` trains a
PyTorch network with the recipe of the run (recipe_real.py) and predicts the same slices.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags, logging
from ml_collections import config_flags

from benchmarks import measure
from benchmarks.epoch_clock import Clock, timed_stage
from benchmarks.peers import real_cases, recipe_real
from brats_jax import inference
from brats_jax.data.splits import Splits, fold_split, make_splits
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.experiments import config as experiment_config
from brats_jax.experiments.checks import check_settings
from brats_jax.experiments.stage_slices import StageSlices
from brats_jax.inference import cases as prediction
from brats_jax.inference.output_names import OutputOptions
from brats_jax.runs.folder import RunFolder, StageFolder
from brats_jax.runtime import devices
from brats_jax.runtime.document import read_document
from brats_jax.runtime.files import read_json, write_json

PACE_STEPS = 30


def steps_of_epoch(seconds: float, epochs: int, parts: Mapping[str, float], start: float) -> int:
    """Steps of an epoch of a training that takes so many seconds.

    Args:
      seconds: of the training.
      epochs: its number of epochs.
      parts: seconds of a 'step', and of 'validation' and 'checkpoint' of an epoch.
      start: seconds outside of the epochs.

    Raises:
      BratsError: not even one step of each epoch fits.
    """
    fixed = start + epochs * (parts["validation"] + parts["checkpoint"])
    steps = int((seconds - fixed) / (epochs * parts["step"]))
    if steps < 1:
        raise BratsError(
            f"--minutes={seconds / 60:g} is too short: start and {epochs} validations take "
            f"{fixed:.0f} s; give more minutes, or fewer epochs (--config.segment.epochs)"
        )
    return steps


def pace(arguments: argparse.Namespace, overrides: list[str]) -> dict[str, Any]:
    """Measures a short training of the first fold."""
    config_flags.DEFINE_config_file("config")
    flags.FLAGS([sys.argv[0], f"--config={arguments.config}", *overrides])
    settings = experiment_config.parse(flags.FLAGS.config)
    check_settings(settings)
    store, number = Store.open(settings.data.store), settings.folds[0]
    splits = make_splits(store, **experiment_config.split_options(settings))
    slices = StageSlices.of(settings, store, splits, number)
    task = experiment_config.segmentation(settings)
    options = dataclasses.replace(
        experiment_config.train_options(settings, "segment", number),
        epochs=2,
        steps_per_epoch=PACE_STEPS,
        warmup_epochs=0.0,
    )
    clock = Clock()
    devices.use_compilation_cache(settings.compilation_cache)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        stage = timed_stage(clock)(
            *(task, store, slices.training(task), slices.validation(task), options),
            *(StageFolder(Path(folder)), devices.training_mesh()),
        )
        begin = time.perf_counter()
        stage.run()
        whole = time.perf_counter() - begin - clock.excluded
    parts = clock.median()
    epoch = parts["steps"] + parts["validation"] + parts["checkpoint"]
    parts["step"] = parts["steps"] / PACE_STEPS
    epochs, start = settings.segment.epochs, max(0.0, whole - 2 * epoch)
    steps = steps_of_epoch(60 * arguments.minutes, epochs, parts, start)
    return {**parts, "start": start, "epochs": epochs, "steps_per_epoch": steps}


def sets(run: Path, number: int) -> dict[str, Any]:
    """Names of the patients that a fold's segmentation trains on, and of its test set."""
    _, stage = recipe_real.open_stage(run, number)
    split = fold_split(read_document(RunFolder(run).splits_json, Splits), stage.store, number)

    def names(slices: np.ndarray) -> list[str]:
        return [stage.store.patients[p] for p in np.unique(stage.store.patient_of[slices])]

    return {"train": names(stage.train_slices), "test": names(split.test)}


def predict(arguments: argparse.Namespace) -> dict[str, Any]:
    """Predicts cases one by one, files to files; the model is loaded and compiled once."""
    begin = time.perf_counter()
    devices.use_compilation_cache("auto")
    model = inference.load(arguments.run / f"fold_{arguments.fold}")
    cases = read_json(arguments.cases, "start real.py again")
    found = real_cases.find(map(Path, cases["sources"]), cases["names"])
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:  # compiles
        prediction.predict_cases(model, [*found.values()][:1], Path(folder), OutputOptions())
    start = time.perf_counter() - begin
    by_case = {}
    for name, case in found.items():
        begin = time.perf_counter()
        options = OutputOptions(overwrite=True)
        outcome = prediction.predict_cases(model, [case], arguments.output, options)
        by_case[name] = time.perf_counter() - begin
        if outcome.failed:
            raise BratsError(outcome.failed[name])
        outcome.written[name].replace(arguments.output / f"{name}{real_cases.SUFFIX}")
    leaves = jax.tree.leaves(model.trained.members[0].network.params)
    return {
        "start": start,
        "seconds_by_case": by_case,
        "parameters": sum(leaf.size for leaf in leaves),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("do", choices=("pace", "sets", "predict", "torch"))
    parser.add_argument("--document", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--config", help="settings of the training")
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--folder", type=Path, help="folder for temporary files")
    parser.add_argument("--run", type=Path, help="our run")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--cases", type=Path, help="JSON: sources and names of the cases")
    parser.add_argument("--output", type=Path, help="folder of the predictions")
    parser.add_argument("--network", choices=("twin", "smp"), default="twin")
    parser.add_argument("--peer_python", help="Python with torch")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--form", choices=("eager", "compiled"), default="eager")
    arguments, rest = parser.parse_known_args()
    devices.keep_freed_memory()  # as the commands do
    logging.set_verbosity(logging.ERROR)  # Orbax logs every checkpoint
    if arguments.do == "pace":
        document = pace(arguments, rest)
    elif rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    elif arguments.do == "sets":
        document = sets(arguments.run, arguments.fold)
    else:
        document = (
            predict(arguments) if arguments.do == "predict" else recipe_real.run_torch(arguments)
        )
    document["where"] = measure.where()
    write_json(arguments.document, document)


if __name__ == "__main__":
    main()
