"""What each ingredient of a recipe changes on real cases: the ablation table of configs/best.py.

    python benchmarks/ablations.py --store=STORE --output=ablations
    python benchmarks/ablations.py --store=STORE --output=ablations --only=regions,context
    python benchmarks/ablations.py --store=STORE --output=ablations --row wider model.width=24

Every ingredient alone is added to --config, a segmentation without pretraining, and compared with
it by cross-validation: each patient is tested once for each seed, by the fold that it does not
train. With --config=configs/small.py, `softmax` and the rows `no ...` leave an ingredient out. The
trainings of all rows have the same patches where the ingredient allows it. Prints the table as
Markdown, and writes it to OUTPUT/table.md. The same command continues a stopped one.

A narrow network on patches of 128 hardly gains from a second CPU core. --at_once=2 trains two
rows at a time, each on its half of the cores.

Cost: with configs/real.py 2.5 minutes for each fold and seed of a row on one idle CPU core.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rows
from benchmarks.rows import BASE, REGIONS
from brats_jax.reporting.averages import patient_values
from brats_jax.reporting.paired_trainings import compare_trainings

AUGMENT = "segment.augmentation."
_CONTEXT_ADAMW = (
    *("segment.context=1", "optim.optimizer=adamw"),
    *("optim.warmup_epochs=0.1", "optim.clip_norm=1.0"),
)
_RECIPE = (
    "model.slope=0.01",
    "segment.outputs=regions",
    "segment.epochs=4",
    "segment.steps_per_epoch=1400",
    *(
        f"{AUGMENT}{name}=true"
        for name in ("rotation", "scaling", "blur", "low_resolution", "modality_intensity")
    ),
)

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
    "bias field": (f"{AUGMENT}bias_field=true",),
    "contrast of lesions": (f"{AUGMENT}lesion_contrast=true",),
    "thick slices": (f"{AUGMENT}thick_slices=true",),
    "averaged over flips": ("evaluation.tta=true",),
    "Dice and focal": ("loss=dice_focal",),
    "three times the steps": ("segment.epochs=6",),
    "context with AdamW and warm-up": _CONTEXT_ADAMW,
    "leaky ReLU and all slices": ("model.slope=0.01", "segment.slices=all"),
    # Ingredients of configs/small.py left out, for --config=configs/small.py.
    "softmax": ("segment.outputs=classes",),
    "no rotation and scaling": (f"{AUGMENT}rotation=false", f"{AUGMENT}scaling=false"),
    "no blur and low resolution": (f"{AUGMENT}blur=false", f"{AUGMENT}low_resolution=false"),
    "no intensity by modality": (f"{AUGMENT}modality_intensity=false",),
    # With configs/real.py `the recipe` has the settings of configs/small.py.
    "the recipe": _RECIPE,
    "the recipe with context and AdamW": (*_RECIPE, *_CONTEXT_ADAMW),
}


class Row(NamedTuple):
    """The trainings of one ingredient.

    Attributes:
      dice: of the mean over WT, TC and ET, and of each: patient -> (fold, seed) -> 3D Dice.
      seconds: of each training.
    """

    dice: dict[str, dict[str, dict[tuple[int, int], float]]]
    seconds: list[float]


def read_rows(arguments: argparse.Namespace) -> dict[str, Row]:
    """The rows of which all trainings are evaluated, in order."""
    found = {}
    for name, trainings in rows.evaluated(arguments).items():
        group = [one for _, one in trainings]
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
        found[name] = Row(dice, rows.training_seconds(name, arguments))
    return found


def table(found: Mapping[str, Row], against: str = BASE) -> list[str]:
    """The rows as Markdown: Dice, the gain over one of them with its interval, and the time."""
    base = found[against]
    gain_over = f"gain over {against} (95 % interval)"
    lines = [f"| added | WT | TC | ET | mean | {gain_over} | time |", "|---" * 7 + "|"]
    for name, row in found.items():
        means = {
            of: np.mean([np.mean(list(own.values())) for own in values.values()])
            for of, values in row.dice.items()
        }
        cells = [name, *(f"{means[of]:.3f}" for of in (*REGIONS, "mean"))]
        if name == against:
            cells += ["", "1"]
        else:
            runs = sorted({run for own in base.dice["mean"].values() for run in own})
            test = compare_trainings(row.dice["mean"], base.dice["mean"], runs)
            times = np.median(np.divide(row.seconds, base.seconds))
            cells += [rows.gain_words(test), f"{times:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Trains what is missing and prints the table."""
    parser = rows.parser(__doc__, INGREDIENTS, "configs/real.py")
    arguments = rows.parse(parser, INGREDIENTS)
    rows.train(arguments)
    found = read_rows(arguments)
    rows.write_table(table(found, arguments.against), len(found[BASE].dice["mean"]), arguments)


if __name__ == "__main__":
    main()
