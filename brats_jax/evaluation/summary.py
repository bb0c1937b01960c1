"""The summary of a run: means over its folds as JSON, as CSV and as printed tables."""

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np

from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES
from brats_jax.evaluation import conventions
from brats_jax.evaluation.rows import MEAN_FOREGROUND, find_row
from brats_jax.evaluation.tallies import LESION_REGIONS
from brats_jax.metrics import overlap
from brats_jax.runs.documents import KEYS, Evaluation, FoldsScore, Score, Summary
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.document import read_if_readable
from brats_jax.runtime.files import atomic_open
from brats_jax.runtime.text import csv_cell, plural

_FIRST_COLUMN = 26  # width of the row names in the printed tables


def read_evaluations(run: RunFolder, num_folds: int) -> list[Evaluation]:
    """The evaluations of this version of a run's folds, in order."""
    # Scores of another version may be defined otherwise: they are not averaged with these.
    found = [
        read_if_readable(run.fold(fold).evaluation_json, Evaluation) for fold in range(num_folds)
    ]
    return [evaluation for evaluation in found if evaluation is not None]


def summarise_run(run: RunFolder, num_folds: int) -> Summary:
    """Averages the evaluated folds of a run into summary.json and summary.csv."""
    folds = read_evaluations(run, num_folds)
    first = folds[0]
    summary = Summary(
        folds=tuple(evaluation.fold for evaluation in folds),
        of_folds=num_folds,
        set=first.set,
        slices=first.slices,
        split_by=first.split_by,
        patients=first.patients,
        loss=first.loss,
        ssl=first.ssl,
        inputs=first.inputs,
        target=first.target,
        rows=_over_folds(folds),
    )
    summary.write(run.summary_json)
    facts = ("patients", "set", "slices", "split_by", "loss", "ssl")
    repeated = {name: getattr(summary, name) for name in facts}
    with atomic_open(run.summary_csv) as file:
        head = [*KEYS, "mean", "sd_over_folds", "folds", "count", *facts]
        writer = csv.DictWriter(file, head, lineterminator="\n")
        writer.writeheader()
        rows = ({**row.to_json(), **repeated} for row in summary.rows)
        writer.writerows({n: _cell(value) for n, value in row.items()} for row in rows)
    return summary


def _cell(value: Any) -> Any:
    return csv_cell(value) if isinstance(value, str) else value


def _over_folds(folds: Sequence[Evaluation]) -> tuple[FoldsScore, ...]:
    """One row per score: mean and SD over the folds that have it, and the number of units."""
    by_key: dict[tuple[str, ...], list[Score]] = {}
    for evaluation in folds:
        for row in evaluation.rows:
            by_key.setdefault(row.key, []).append(row)
    rows = []
    for scores in by_key.values():
        first = scores[0]
        known = [score.mean for score in scores if score.mean is not None]
        rows.append(
            FoldsScore(
                stage=first.stage,
                unit=first.unit,
                over=first.over,
                of=first.of,
                metric=first.metric,
                convention=first.convention,
                mean=float(np.mean(known)) if known else None,
                sd_over_folds=float(np.std(known, ddof=1)) if len(known) > 1 else None,
                folds=len(known),
                count=max(score.count for score in scores),
            )
        )
    return tuple(rows)


def format_summary(summary: Summary) -> str:
    """The tables that a run prints, in plain text, with their conventions and units."""
    folds = ", ".join(map(str, summary.folds))
    leak = "" if summary.split_by == "patient" else "  (patients on both sides: too good)"
    lines = [
        "",
        f"Test set: {plural(summary.patients, 'patient')}, {summary.slices} slices, split by "
        f"{summary.split_by}{leak}; mean over fold {folds} of {summary.of_folds}",
    ]
    rows = summary.rows
    if any(row.stage == "pretrain" for row in rows):
        lines += _pretraining_table(summary)
    if any(row.stage == "segment" for row in rows):
        lines += _slice_table(summary)
        if any(row.over == "volumes" for row in rows):
            lines += _volume_table(summary)
    return "\n".join(lines)


def _pretraining_table(summary: Summary) -> list[str]:
    inputs = ", ".join(DISPLAY_NAMES[name] for name in summary.inputs)
    title = f"{DISPLAY_NAMES[summary.target]} from {inputs}"
    lines = ["", title.ljust(_FIRST_COLUMN) + "MSE      PSNR dB  SSIM"]
    rows = [row for row in summary.rows if row.stage == "pretrain"]
    for region in ("slice", "brain", "tumour"):
        cells = [
            _number(find_row(rows, of=region, metric=metric, convention=rule), digits)
            for metric, rule, digits in (
                ("mse", "", 4),
                ("psnr", "target range", 2),
                ("ssim", "target range", 4),
            )
        ]
        line = f"  {region}".ljust(_FIRST_COLUMN) + "".join(c.ljust(9) for c in cells)
        lines.append(line.rstrip())
    lines.append("  PSNR and SSIM: range of each target slice; means over slices that hold it")
    return lines


def _slice_table(summary: Summary) -> list[str]:
    rows = [r for r in summary.rows if r.over == "all slices" and r.stage == "segment"]
    loss = f"{summary.loss}, {'SSL' if summary.ssl else 'no SSL'}"
    head = "  by slice".ljust(_FIRST_COLUMN)
    head += "".join(f"Dice {c}".ljust(21) for c in overlap.CONVENTIONS) + "ASD mm (slices)"
    lines = ["", f"Segmentation ({loss})", head]
    for name in (*CLASSES, MEAN_FOREGROUND):
        line = f"    {name}".ljust(_FIRST_COLUMN)
        for convention in overlap.CONVENTIONS:
            cell = find_row(rows, of=name, metric="dice", convention=convention)
            # The foreground's is a mean of three means, and has no count of slices of its own.
            show = _number if name == MEAN_FOREGROUND else _counted
            line += show(cell, 4).ljust(21)
        line += _counted(find_row(rows, of=name, metric="asd_mm"), 2)
        lines.append(line.rstrip())
    lines += [f"  {c}: {conventions.NOTES[c]}" for c in overlap.CONVENTIONS]
    lines.append("  mean foreground: of the three classes' means")
    lines.append("  ASD: pooled over both boundaries, slices where both masks hold the class")
    return lines


def _volume_table(summary: Summary) -> list[str]:
    rows = [r for r in summary.rows if r.over == "volumes"]
    columns = (
        ("Dice brats2020", "dice", "brats2020", 4),
        ("HD95 mm brats2020", "hd95_mm", "brats2020", 2),
        ("ASD mm (patients)", "asd_mm", "both_present", 2),
        ("Dice lesion-wise", "lesion_dice", "brats2023", 4),
    )
    lines = ["", "  by patient, in 3D".ljust(_FIRST_COLUMN)]
    lines[-1] += "".join(title.ljust(21) for title, *_ in columns).rstrip()
    for name in dict.fromkeys((*LESION_REGIONS, *CLASSES[1:])):
        line = f"    {name}".ljust(_FIRST_COLUMN)
        for _, metric, convention, digits in columns:
            cell = find_row(rows, of=name, metric=metric, convention=convention)
            line += ("" if cell is None else _counted(cell, digits)).ljust(21)
        lines.append(line.rstrip())
    lines.append(f"  brats2020: {conventions.NOTES['brats2020']}")
    return lines


def _counted(row: FoldsScore | None, digits: int) -> str:
    return "" if row is None else f"{_number(row, digits)} ({row.count})"


def _number(row: FoldsScore | None, digits: int) -> str:
    return "-" if row is None or row.mean is None else f"{row.mean:.{digits}f}"
