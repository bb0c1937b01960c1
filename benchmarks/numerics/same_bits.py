"""Compares the results of two checkouts bit by bit: every command, on one machine, by turns.

    python benchmarks/numerics/same_bits.py OLD NEW              # ten minutes on two cores
    python benchmarks/numerics/same_bits.py OLD NEW --real=DIR   # BraTS cases instead of phantoms
    python benchmarks/numerics/same_bits.py OLD NEW --folder=KEPT  # keeps both results there

OLD and NEW are folders with a checkout each. Both prepare stores normalised by slice and by volume,
train both stages on each, evaluate, calibrate, predict (folds and flips averaged, with
probabilities and entropy; reconstruction), report and export. NEW continues besides a run that
OLD was told to stop (SIGTERM) in the middle of either stage, and predicts with, evaluates and
exports OLD's run. Prints by step how many numbers and arrays differ, and the first of them; exits
with 1 if any does.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from absl import logging

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from result_folders import differences, read_folder  # noqa: E402

SHOWN = 5
FOLDS = 2


class Checkout:
    """A version of the program, and the folder in which its commands run.

    Args:
      path: the checkout.
      folder: where they run; paths are relative, so that both versions are given the same.
      settings: of every training.
    """

    def __init__(self, path: Path, folder: Path, settings: Mapping[str, object]) -> None:
        self.path, self.folder = path.resolve(), folder
        self._settings = [f"--config.{name}={value}" for name, value in settings.items()]
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(self.path),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        folder.mkdir(parents=True)

    def run(self, name: str, *flags: str) -> None:
        """Runs a command to its successful end.

        Raises:
          SystemExit: it failed.
        """
        done = subprocess.run(
            [sys.executable, "-m", f"brats_jax.{name}", *flags],
            cwd=self.folder, env=self._environment, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{self.path}: brats_jax.{name} {' '.join(flags)}\n{done.stderr}")

    def training(self, workdir: str, store: str) -> list[str]:
        """The flags of a training."""
        config = self.path / "configs" / "base.py"
        return [f"--config={config}", f"--workdir={workdir}", f"--config.data.store={store}",
                *self._settings]  # fmt: skip

    def stop(self, workdir: str, store: str, stage: str) -> None:
        """Starts a training and stops it with SIGTERM within a stage.

        Raises:
          SystemExit: it ended before.
        """
        metrics = self.folder / workdir / "fold_0" / stage / "metrics.jsonl"
        process = subprocess.Popen(
            [sys.executable, "-m", "brats_jax.main", *self.training(workdir, store)],
            cwd=self.folder, env=self._environment, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            while not (metrics.exists() and metrics.read_text().count("\n") > 1):
                if process.poll() is not None:
                    raise SystemExit(f"{self.path}: ended with {process.returncode} in {stage}")
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            if process.wait() != 128 + signal.SIGTERM:
                raise SystemExit(f"{self.path}: {stage} was not stopped ({process.returncode})")
        finally:
            if process.poll() is None:
                process.kill()


def flow(version: Checkout, arguments: argparse.Namespace) -> Iterator[str]:
    """Runs every command of a version; yields the folder of each result once it is there."""
    if arguments.real:
        source = [f"--source={arguments.real.resolve()}"]
    else:
        source = [
            "--source=phantom",
            f"--patients={arguments.patients}",
            f"--shape={arguments.shape}",
        ]
        # Prediction takes voxels of 1 mm only.
        version.run("phantom", "--cases=cases", "--patients=1", "--seed=100")
        yield "cases"
    for how in ("slice", "volume"):
        store, run = f"store_{how}", f"run_{how}"
        version.run("prepare", *source, f"--store={store}", f"--normalisation={how}")
        yield store
        version.run("main", *version.training(run, store))
        version.run("calibrate", f"--checkpoint={run}")
        yield run
    yield from predict_and_export(version, "run_volume", case_of(arguments), "")
    for how in ("slice", "volume"):
        version.run("report", f"--workdir=run_{how}")
        yield f"run_{how}/report"


def case_of(arguments: argparse.Namespace) -> str:
    """The folder of the case that is predicted: the phantom, or the first of the real ones."""
    if not arguments.real:
        return "cases"
    return str(min(path.parent for path in arguments.real.resolve().rglob("*seg.nii*")))


def predict_and_export(version: Checkout, run: str, case: str, suffix: str) -> Iterator[str]:
    """Predicts with a run and exports it; yields the folders, named with a suffix."""
    for name, flags in {
        "predicted": ("--tta", "--calibrated", "--probabilities", "--uncertainty"),
        "reconstructed": ("--task=reconstruct",),
    }.items():
        output = f"{name}{suffix}"
        version.run(
            "predict", f"--checkpoint={run}", f"--input={case}", f"--output={output}", *flags
        )
        yield output
    version.run("export", f"--checkpoint={run}", f"--output=exported{suffix}")
    yield f"exported{suffix}"


def compare(title: str, before: Path, now: Path, without: tuple[str, ...] = ()) -> int:
    """Prints how many numbers, texts and arrays of two folders differ; returns it."""
    old, new = (
        {k: leaf for k, leaf in read_folder(f).items() if not any(part in k for part in without)}
        for f in (before, now)
    )
    found = differences(old, new)
    print(f"{title}: {len(found)} of {len(old)} differ", flush=True)
    for line in found[:SHOWN]:
        print(f"  {line}")
    return len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--real", type=Path, help="folder of BraTS cases")
    parser.add_argument("--folder", type=Path, help="to keep the results in")
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--shape", default="16,96,80", help="of a phantom: slices,H,W")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12, help="of an epoch, of two")
    arguments = parser.parse_args()
    logging.set_verbosity(logging.ERROR)  # of Orbax, which notes that it only reads
    with tempfile.TemporaryDirectory() as temporary:
        differing = compare_all(arguments, arguments.folder or Path(temporary))
    print(f"{differing} differ in all")
    sys.exit(1 if differing else 0)


def compare_all(arguments: argparse.Namespace, folder: Path) -> int:
    """Runs both versions in a folder and compares their results; returns how many differ."""
    settings: dict[str, object] = {
        "folds": tuple(range(FOLDS)),
        "data.num_folds": FOLDS,
        "data.test_fraction": 0.25,
        "data.patch_size": arguments.patch,
        "model.width": arguments.width,
        "train.batch_size": 4,
        "train.validation_batch_size": 8,
        "train.log_every_steps": 2,
        "train.save_every_steps": 5,
        "evaluation.batch_size": 8,
        "evaluation.panels": 0,
    }
    for stage in ("pretrain", "segment"):
        settings |= {f"{stage}.epochs": 2, f"{stage}.steps_per_epoch": arguments.steps}
    old = Checkout(arguments.old, folder / "old", settings)
    new = Checkout(arguments.new, folder / "new", settings)
    differing = 0
    for result, _ in zip(flow(old, arguments), flow(new, arguments), strict=True):
        differing += compare(result, old.folder / result, new.folder / result)

    # NEW takes up what OLD has begun.
    for stage in ("pretrain", "segment"):
        old.stop("stopped", "store_slice", stage)
        name = f"stopped_in_{stage}"
        shutil.copytree(old.folder / "stopped", new.folder / name)
        shutil.rmtree(new.folder / "continued", ignore_errors=True)
        (new.folder / name).rename(new.folder / "continued")
        new.run("main", *new.training("continued", "store_slice"))
        title = f"stopped by OLD in {stage}, continued by NEW"
        # `run_slice` alone is calibrated and reported on.
        without = ("calibration.json", "report")
        differing += compare(title, old.folder / "run_slice", new.folder / "continued", without)
    shutil.copytree(old.folder / "run_volume", new.folder / "taken")
    new.run("main", *new.training("taken", "store_volume"), "--mode=evaluate")
    new.run("calibrate", "--checkpoint=taken")
    title = "trained by OLD, evaluated and calibrated by NEW"
    differing += compare(title, old.folder / "run_volume", new.folder / "taken")
    # Predictions name their run.
    (new.folder / "run_volume").rename(new.folder / "own")
    (new.folder / "taken").rename(new.folder / "run_volume")
    for result in predict_and_export(new, "run_volume", case_of(arguments), "_taken"):
        before = old.folder / result.removesuffix("_taken")
        title = f"trained by OLD, {result.removesuffix('_taken')} by NEW"
        differing += compare(title, before, new.folder / result)
    return differing


if __name__ == "__main__":
    main()
