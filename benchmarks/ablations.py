"""What each ingredient of a recipe changes on real cases: the ablation table of configs/best.py.

    python benchmarks/ablations.py --store=STORE --output=ablations
    python benchmarks/ablations.py --store=STORE --output=ablations --only=regions,context

Every ingredient alone is added to --config, a segmentation without pretraining, and compared with
it by cross-validation: each patient is tested once for each seed, by the fold that it does not
train. The trainings of all rows have the same patches where the ingredient allows it. Prints the
table as Markdown, and writes it to OUTPUT/table.md. The same command continues a stopped one.

A narrow network on patches of 128 hardly gains from a second CPU core. --at_once=2 trains two
rows at a time, each on its half of the cores.

Cost: with configs/real.py 2.5 minutes for each fold and seed of a row on one idle CPU core.
"""

import argparse
import os
import queue
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import measure  # noqa: E402
from brats_jax.reporting.arms import Measured, collect, patient_values  # noqa: E402
from brats_jax.reporting.read_runs import discover  # noqa: E402
from brats_jax.reporting.statistics import compare_trainings  # noqa: E402
from brats_jax.runs.documents import StageResult  # noqa: E402
from brats_jax.runs.folder import RunFolder  # noqa: E402
from brats_jax.runtime.document import read_document  # noqa: E402

BASE = "base"
REGIONS = ("WT", "TC", "ET")
AUGMENT = "segment.augmentation."

# Settings of each row, without 'config.'.
INGREDIENTS: dict[str, tuple[str, ...]] = {
    BASE: (),
    "context": ("segment.context=1",),
    "context of 2": ("segment.context=2",),
    "regions": ("segment.outputs=regions",),
    "all slices": ("segment.slices=all",),
    "class-aware patches": ("segment.sampling=classes",),
    "always around tumour": ("segment.tumour_probability=1.0",),
    "AdamW": ("optim.optimizer=adamw",),
    "twice the learning rate": ("optim.learning_rate=2e-3",),
    "warm-up and clipping": ("optim.warmup_epochs=0.1", "optim.clip_norm=1.0"),
    "moving average": ("train.ema=0.99",),
    "leaky ReLU": ("model.slope=0.01",),
    "Dice of present classes": ("segment.dice_present=true",),
    "label smoothing": ("segment.label_smoothing=0.1",),
    "deep supervision": ("segment.deep_supervision=true",),
    "patches of 192": ("data.patch_size=192",),
    "rotation and scaling": (f"{AUGMENT}rotation=true", f"{AUGMENT}scaling=true"),
    "no quarter turns": (f"{AUGMENT}quarter_turn=false",),
    "blur and low resolution": (f"{AUGMENT}blur=true", f"{AUGMENT}low_resolution=true"),
    "intensity by modality": (f"{AUGMENT}modality_intensity=true",),
    "averaged over flips": ("evaluation.tta=true",),
    "Dice and focal": ("loss=dice_focal",),
    "three times the steps": ("segment.epochs=6",),
    "leaky ReLU and all slices": ("model.slope=0.01", "segment.slices=all"),
    # With configs/real.py these are the settings of configs/small.py.
    "the recipe": (
        "model.slope=0.01",
        "segment.outputs=regions",
        "segment.epochs=4",
        "segment.steps_per_epoch=1400",
        *(
            f"{AUGMENT}{name}=true"
            for name in ("rotation", "scaling", "blur", "low_resolution", "modality_intensity")
        ),
    ),
}


class Row(NamedTuple):
    """The trainings of one ingredient.

    Attributes:
      dice: of the mean over WT, TC and ET, and of each: patient -> (fold, seed) -> 3D Dice.
      seconds: of each training.
    """

    dice: dict[str, dict[str, dict[tuple[int, int], float]]]
    seconds: list[float]


def folder_name(name: str, seed: int) -> str:
    """'all_slices-seed_0'."""
    return f"{name.lower().replace(' ', '_')}-seed_{seed}"


def command(name: str, seed: int, arguments: argparse.Namespace) -> list[str]:
    """The training and evaluation of all folds of one row and seed."""
    settings = (
        f"data.store={arguments.store}",
        "ssl=false",
        "data.test_fraction=0",
        f"data.num_folds={arguments.folds}",
        f"folds={','.join(map(str, range(arguments.folds)))}",
        f"seed={seed}",
        *INGREDIENTS[name],
        *arguments.settings,
    )
    return [
        *(sys.executable, "-m", "brats_jax.main", f"--config={arguments.config}"),
        f"--workdir={arguments.output / folder_name(name, seed)}",
        *(f"--config.{setting}" for setting in settings),
    ]


def read_rows(
    output: Path, names: Sequence[str], seeds: Sequence[int], folds: int
) -> dict[str, Row]:
    """The rows of which all trainings are evaluated, in order."""
    by_run: dict[str, list[Measured]] = {}
    for one in collect(discover(output)).measured():
        by_run.setdefault(one.run.name, []).append(one)
    rows = {}
    for name in names:
        runs = [folder_name(name, seed) for seed in seeds]
        group = [one for run in runs for one in by_run.get(run, [])]
        if len(group) < len(seeds) * folds:
            continue
        dice = {
            of: patient_values(group, ("patient", "volumes", of, "dice", "brats2020"))
            for of in REGIONS
        }
        dice["mean"] = {
            patient: {
                run: float(np.mean([dice[of][patient][run] for of in REGIONS])) for run in own
            }
            for patient, own in dice["WT"].items()
        }
        seconds = [
            read_document(
                RunFolder(output / run).fold(fold).stage("segment").complete_json, StageResult
            ).seconds
            for run in runs
            for fold in range(folds)
        ]
        rows[name] = Row(dice, seconds)
    return rows


def table(rows: Mapping[str, Row], against: str = BASE) -> list[str]:
    """The rows as Markdown: Dice, the gain over one of them with its interval, and the time."""
    base = rows[against]
    gain_over = f"gain over {against} (95 % interval)"
    lines = [f"| added | WT | TC | ET | mean | {gain_over} | time |", "|---" * 7 + "|"]
    for name, row in rows.items():
        means = {
            of: np.mean([np.mean(list(own.values())) for own in values.values()])
            for of, values in row.dice.items()
        }
        cells = [name, *(f"{means[of]:.3f}" for of in (*REGIONS, "mean"))]
        if name == against:
            cells += ["", "1"]
        else:
            runs = sorted({run for own in base.dice["mean"].values() for run in own})
            found = compare_trainings(row.dice["mean"], base.dice["mean"], runs)
            times = np.median(np.divide(row.seconds, base.seconds))
            gain = f"{found.mean_difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
            cells += [gain, f"{times:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def words(arguments: argparse.Namespace, rows: Mapping[str, Row]) -> str:
    """The sentence below the table."""
    patients = len(rows[BASE].dice["mean"])
    return (
        f"3D Dice (an absent region counts as in BraTS 2020), mean over {patients} patients, each "
        f"tested once for each of {len(arguments.seeds)} seeds by cross-validation with "
        f"{arguments.folds} folds; {arguments.config} without pretraining. The interval holds the "
        "spread between patients and, from five folds on, between folds. Time: of the training, as "
        "a ratio; it depends on the load."
    )


def train(arguments: argparse.Namespace) -> None:
    """All rows and seeds, `at_once` at a time, each on its share of the CPU cores."""
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
                command(name, seed, arguments), cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
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


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--config", default="configs/real.py")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", default="0", help="numbers with commas")
    parser.add_argument("--only", default="", help=f"of {', '.join(INGREDIENTS)}; with commas")
    parser.add_argument("--against", default=BASE, help="the row that the gain is over")
    parser.add_argument("--at_once", type=int, default=1, help="rows that train at the same time")
    parser.add_argument("--settings", nargs="*", default=[], help="of all rows: model.width=32 ...")
    arguments = parser.parse_args()
    arguments.seeds = [int(seed) for seed in arguments.seeds.split(",")]
    chosen = [name for name in arguments.only.split(",") if name]
    if unknown := sorted({*chosen} - {*INGREDIENTS}):
        parser.error(f"no ingredient is called {unknown[0]}; there are {', '.join(INGREDIENTS)}")
    arguments.names = list(dict.fromkeys((BASE, *(chosen or INGREDIENTS))))
    if arguments.against not in arguments.names:
        parser.error(f"--against={arguments.against}: not one of the rows")
    if not 1 <= arguments.at_once <= len(os.sched_getaffinity(0)):
        parser.error(
            f"--at_once={arguments.at_once}: 1 to {len(os.sched_getaffinity(0))} CPU cores"
        )
    arguments.store, arguments.output = arguments.store.resolve(), arguments.output.resolve()
    return arguments


def main() -> None:
    """Trains what is missing and prints the table."""
    arguments = _parse()
    arguments.output.mkdir(parents=True, exist_ok=True)
    train(arguments)
    rows = read_rows(arguments.output, arguments.names, arguments.seeds, arguments.folds)
    lines = [*table(rows, arguments.against), "", words(arguments, rows), "", measure.where()]
    (arguments.output / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
