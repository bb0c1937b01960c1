"""Fusions and modality dropout on real cases: Dice from all modalities, and from every subset.

    python benchmarks/missing.py --store=STORE --output=missing --folds=0,1 --at_once=2

A row is a fusion (config.model.fusion), trained with and without modality dropout; all rows have
the same number of steps and the same patches. By cross-validation each patient is tested once for
each seed, from each of the 15 subsets; a network that was not trained with dropout gets zeros for
what is missing. Prints the table as Markdown, and writes it to OUTPUT/table.md. The same command
continues a stopped one. --config takes the settings that all rows have.

Cost: with the default on one idle CPU core some ten minutes for a fold of `early`, twice as long
with an encoder for each modality; a third of it is the evaluation.
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
from brats_jax.models import FUSIONS
from brats_jax.reporting.paired_trainings import compare_trainings
from brats_jax.reporting.statistics import PairedDifference
from brats_jax.reporting.subsets import MEAN, SubsetArm

DROPOUT = "segment.modality_dropout=0.5"
SUBSETS = "evaluation.subsets=true"
OTHERS = tuple(FUSIONS)[1:]

# `base` is the paper's fusion without dropout.
ROWS: dict[str, tuple[str, ...]] = {
    BASE: (SUBSETS,),
    "early with dropout": (SUBSETS, DROPOUT),
    **{f"{name} with dropout": (SUBSETS, DROPOUT, f"model.fusion={name}") for name in OTHERS},
    **{name: (SUBSETS, f"model.fusion={name}") for name in OTHERS},
}


class Row(NamedTuple):
    """The trainings of one row.

    Attributes:
      arm: their evaluations from every subset.
      seconds: of each training.
    """

    arm: SubsetArm
    seconds: list[float]


def read_rows(arguments: argparse.Namespace) -> dict[str, Row]:
    """The rows of which all trainings are evaluated from every subset, in order."""
    found = {}
    for name, trainings in rows.evaluated(arguments).items():
        documents = [document for _, one in trainings if (document := one.files.subsets)]
        if len(documents) < len(trainings):
            continue
        (arm, _), first = trainings[0], documents[0]
        evaluated = tuple(one for _, one in trainings)
        row = SubsetArm(arm, evaluated, first.trained_for_missing, first.inputs)
        found[name] = Row(row, rows.training_seconds(name, arguments))
    return found


def gain(row: Row, base: Row, *, of_all: bool, region: str) -> PairedDifference:
    """A row minus the base: from all modalities, or the mean over the subsets."""
    subset = row.arm.subsets[-1] if of_all else ()
    a, b = row.arm.values(subset, region), base.arm.values(subset, region)
    return compare_trainings(a, b, row.arm.runs)


def table(found: Mapping[str, Row], against: str = BASE) -> list[str]:
    """Dice of each row, its gains over one of them with their intervals, and the time."""
    base = found[against]
    lines = [
        f"| row | all four: WT / TC / ET | mean | gain over {against} (95 % interval) "
        "| 15 subsets: WT / TC / ET | gain in WT | gain in the mean | time |",
        "|---" * 8 + "|",
    ]
    for name, row in found.items():
        full, every = row.arm.subsets[-1], ()
        dice, means = (
            " / ".join(f"{row.arm.mean(subset, of):.3f}" for of in REGIONS)
            for subset in (full, every)
        )
        cells = [name, dice, f"{row.arm.mean(full, MEAN):.3f}"]
        if row is base:
            cells += ["", means, "", "", "1"]
        else:
            cells += [
                rows.gain_words(gain(row, base, of_all=True, region=MEAN)),
                means,
                rows.gain_words(gain(row, base, of_all=False, region="WT")),
                rows.gain_words(gain(row, base, of_all=False, region=MEAN)),
                f"{np.median(np.divide(row.seconds, base.seconds)):.2f}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Trains what is missing and prints the table."""
    parser = rows.parser(__doc__, ROWS, "configs/small.py")
    arguments = rows.parse(parser, ROWS)
    rows.train(arguments)
    found = read_rows(arguments)
    rows.write_table(table(found, arguments.against), found[BASE].arm.patients, arguments)


if __name__ == "__main__":
    main()
