"""Scores runs of several planes, and their average, on the patients that none has trained on.

    python benchmarks/planes.py --runs=runs/axial,runs/coronal,runs/sagittal
    python benchmarks/planes.py --runs=runs/axial,runs/coronal,runs/sagittal --fold=0 --tta

The runs must have the same splits; of each fold that all have trained to the end, the networks of
this fold predict its test set. Prints for each run and for the mean of all the 3D Dice and HD95 of
WT, TC and ET (BraTS 2020's convention), averaged over the patients of all folds, and what the mean
of all gains in Dice over each run: paired by patient, with a bootstrap interval over patients for
the networks as trained.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import rows  # noqa: E402
from brats_jax.errors import BratsError  # noqa: E402
from brats_jax.evaluation import several_runs  # noqa: E402
from brats_jax.evaluation.conventions import scores_of  # noqa: E402
from brats_jax.evaluation.tallies import SegmentationTally  # noqa: E402
from brats_jax.reporting.statistics import paired_difference  # noqa: E402
from brats_jax.runs.folder import RunFolder  # noqa: E402
from brats_jax.runtime import devices  # noqa: E402

REGIONS = ("WT", "TC", "ET")
METRICS = (("dice", 3), ("hd95_mm", 1))  # and digits


Values = dict[tuple[str, str], np.ndarray]  # (metric, region) -> a value for each patient


def values_of(tallies: Sequence[SegmentationTally]) -> Values:
    """By (metric, region) the values of the patients of all tallies, one after the other."""
    pooled: dict[tuple[str, str], list[float]] = {}
    for tally in tallies:
        for score in scores_of(tally):
            if score.over == "volumes" and score.convention == "brats2020":
                pooled.setdefault((score.metric, score.of), []).extend(score.values.tolist())
    return {key: np.asarray(values) for key, values in pooled.items()}


def table(found: Mapping[str, Values], planes: Sequence[str]) -> str:
    """The means over patients of each run and of the mean of all, as Markdown."""
    heads = [f"{metric} {region}" for metric, _ in METRICS for region in REGIONS]
    lines = [f"| run | plane | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for (name, values), plane in zip(found.items(), (*planes, "all"), strict=True):
        cells = [
            f"{values[metric, region].mean():.{digits}f}"
            for metric, digits in METRICS
            for region in REGIONS
        ]
        lines.append(f"| {name} | {plane} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gains(found: Mapping[str, Values]) -> str:
    """The Dice of the last entry minus that of each other one, as Markdown."""
    *others, last = found
    lines = [f"| Dice of '{last}' minus | WT | TC | ET | mean of the three |", "|---" * 5 + "|"]
    for name in others:
        differences = []
        for regions in (*((region,) for region in REGIONS), REGIONS):
            a, b = (
                np.mean([found[run]["dice", region] for region in regions], axis=0)
                for run in (last, name)
            )
            differences.append(paired_difference(a, b))
        cells = [rows.gain_words(difference) for difference in differences]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", required=True, help="run folders, with commas")
    parser.add_argument("--fold", type=int, help="one fold alone")
    parser.add_argument("--tta", action="store_true", help="average over flips as well")
    options = parser.parse_args()
    devices.use_compilation_cache("auto")
    names = options.runs.split(",")
    try:
        runs = several_runs.open_runs([RunFolder(Path(n)) for n in names], devices.data_mesh())
        folds = several_runs.common_folds(runs)
        if options.fold is not None and options.fold not in folds:
            raise BratsError(f"--fold={options.fold}: not trained to the end in all runs")
        tallies: dict[str, list[SegmentationTally]] = {}
        for fold in folds if options.fold is None else [options.fold]:
            found = several_runs.score(runs, names, fold, tta=options.tta, tolerance_mm=1.0)
            for name, tally in found.items():
                tallies.setdefault(name, []).append(tally)
    except BratsError as error:
        sys.exit(f"error: {error}")
    patients = sum(len(tally.slices.patients) for tally in tallies[names[0]])
    values = {name: values_of(own) for name, own in tallies.items()}
    print(table(values, [one.store.plane for one in runs]), gains(values), sep="\n\n")
    print(f"{patients} patients; folds {', '.join(map(str, folds))}; means over patients")


if __name__ == "__main__":
    main()
