"""Means over the folds of a run of its segmentation from every subset of the modalities."""

import csv
import io
from collections.abc import Sequence

import numpy as np

from brats_jax.data.folds import fold_titles
from brats_jax.data.modalities import REGIONS
from brats_jax.data.subsets import dots, subset_name, subset_words, subsets_of
from brats_jax.evaluation.subset_scores import CONVENTION, TRAINED, ZEROS, dice_of
from brats_jax.runs.averaged_label import averaged_label
from brats_jax.runs.documents import CROSS_VALIDATION
from brats_jax.runs.documents.subsets import (
    SubsetEvaluation,
    SubsetFiles,
    SubsetMean,
    SubsetSummary,
)
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime import locks
from brats_jax.runtime.console import print_line
from brats_jax.runtime.document import read_if_readable
from brats_jax.runtime.files import json_text
from brats_jax.runtime.own_files import OwnFiles

MEAN = "mean"  # of all subsets, as the literature prints it


def summarise_subsets(run: RunFolder, num_folds: int) -> SubsetSummary | None:
    """Writes subsets.json and subsets.csv of a run, from those of its folds; None without any.

    Folds that were evaluated in another way than the first one are left out, and named.
    """
    found = [
        read_if_readable(SubsetFiles(run.fold(k).path).json, SubsetEvaluation)
        for k in range(num_folds)
    ]
    complete = [one for one in found if one is not None and one.is_complete]
    if not complete:
        return None
    first = complete[0]
    alike = [one for one in complete if are_alike((first, one))]
    if others := [one.fold for one in complete if one not in alike]:
        print_line(f"{fold_titles(others)} evaluated in another way: not in the means of subsets")
    summary = average(alike)
    with locks.hold(run.lock, str(run.path), patience_s=60):
        _write(run, summary)
    return summary


def are_alike(folds: Sequence[SubsetEvaluation]) -> bool:
    """Whether folds were evaluated in the same way, so that their means say something."""
    ways = {(f.set, f.split_by, f.inputs, f.trained_for_missing, f.tta, f.planes) for f in folds}
    return len(ways) == 1


def average(folds: Sequence[SubsetEvaluation]) -> SubsetSummary:
    """The means of folds that were evaluated alike, at least one."""
    first = folds[0]
    every = subsets_of(first.inputs)
    rows = []
    for region in REGIONS:
        of_fold = [np.array([dice_of(one, subset, region) for subset in every]) for one in folds]
        columns = [*zip(every, zip(*of_fold, strict=True), strict=True)]
        columns.append(((), tuple(dice.mean(axis=0) for dice in of_fold)))
        full = _mean(columns[len(every) - 1][1], first.set)
        for subset, dice in columns:
            mean = _mean(dice, first.set)
            means = [float(d.mean()) for d in dice]
            rows.append(
                SubsetMean(
                    modalities=subset,
                    of=region,
                    mean=mean,
                    sd_over_folds=float(np.std(means, ddof=1)) if len(means) > 1 else None,
                    drop=full - mean,
                    folds=len(folds),
                    patients=_patients(folds),
                )
            )
    return SubsetSummary(
        folds=tuple(one.fold for one in folds),
        set=first.set,
        split_by=first.split_by,
        inputs=first.inputs,
        trained_for_missing=first.trained_for_missing,
        tta=first.tta,
        convention=CONVENTION,
        rows=tuple(rows),
        planes=first.planes,
    )


def _mean(by_fold: Sequence[np.ndarray], of_set: str) -> float:
    """Over folds that share their patients, or over the patients of all folds."""
    if of_set == CROSS_VALIDATION:
        return float(np.concatenate(by_fold).mean())
    return float(np.mean([dice.mean() for dice in by_fold]))


def _patients(folds: Sequence[SubsetEvaluation]) -> int:
    counts = [len(one.patients) for one in folds]
    return sum(counts) if folds[0].set == CROSS_VALIDATION else max(counts)


def format_subsets(summary: SubsetSummary) -> str:
    """The table that a run prints: a row for each subset, the mean of all last."""
    every = subsets_of(summary.inputs)
    regions = list(REGIONS)
    by = {(row.modalities, row.of): row for row in summary.rows}
    how = TRAINED if summary.trained_for_missing else ZEROS
    lines = [
        "",
        f"Missing modalities ({how}), 3D Dice ({summary.convention}), mean over "
        f"{by[(), regions[0]].patients} patients and {fold_titles(summary.folds)}"
        + averaged_label(summary.tta, summary.planes),
        "  modalities".ljust(28)
        + "".join(of.ljust(9) + "drop".ljust(9) for of in regions).rstrip(),
    ]
    for subset in (*every, ()):
        name = f"{dots(subset, summary.inputs)} {subset_words(subset)}"
        line = f"  {name if subset else f'mean of the {len(every)}'}".ljust(28)
        for of in regions:
            row = by[subset, of]
            line += f"{_number(row.mean)}".ljust(9) + f"{_number(row.drop)}".ljust(9)
        lines.append(line.rstrip())
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _table(summary: SubsetSummary) -> bytes:
    """subsets.csv of a run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ("modalities", "of", "mean", "sd_over_folds", "drop", "folds", "patients")
    facts = ("convention", "set", "split_by", "trained_for_missing", "tta")
    writer.writerow([*head, *facts])
    for row in summary.rows:
        numbers = ["" if x is None else f"{x:.6g}" for x in (row.mean, row.sd_over_folds, row.drop)]
        name = subset_name(row.modalities) or MEAN
        repeated = [getattr(summary, fact) for fact in facts]
        writer.writerow([name, row.of, *numbers, row.folds, row.patients, *repeated])
    return text.getvalue().encode()


def _write(run: RunFolder, summary: SubsetSummary) -> None:
    files, own = SubsetFiles(run.path), OwnFiles(run.path, run.ledger_json)
    made = {
        files.json: json_text(summary.sealed().to_json()).encode(),
        files.csv: _table(summary),
    }
    if own.damage:
        own.adopt_equal({path.name: data for path, data in made.items()})
    new = {}
    for path, data in made.items():
        if own.may_replace(path.name) or own.is_cut(path.name, data):
            new[path.name] = data
        else:
            print_line(
                f"{path} was not written by this program, or has changed since: kept; move it "
                "away, and give the same command again for a new one"
            )
    own.write(new)
