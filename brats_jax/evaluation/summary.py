"""Rows, CSV and the printed tables out of tallies: each number with its convention beside it."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES
from brats_jax.evaluation import conventions
from brats_jax.evaluation.conventions import Scores
from brats_jax.evaluation.tallies import (
    LESION_REGIONS,
    SCORED,
    PretrainingTally,
    SegmentationTally,
)
from brats_jax.metrics import overlap
from brats_jax.runs.evaluated import EVALUATION_VERSION
from brats_jax.runtime.files import atomic_open, write_json
from brats_jax.runtime.text import plural

# What identifies a number within an evaluation.
KEYS = ("stage", "unit", "over", "of", "metric", "convention")
MEAN_FOREGROUND = "mean foreground"
SEVERAL = ("dice", "hd95_mm", "sensitivity")  # what volumes have under several conventions
_FIRST_COLUMN = 26  # of the printed tables: the names of the rows


def rows_of(stage: str, scores: Iterable[Scores]) -> list[dict[str, Any]]:
    """One row for each number: what it is, its mean, and how many units that is over.

    The mean over NCR/NET, ED and ET is added to every Dice.
    """
    rows: list[dict[str, Any]] = []
    for score in scores:
        values = (stage, *score.key, score.mean(), score.count())
        rows.append(dict(zip((*KEYS, "mean", "count"), values, strict=True)))
    dice = [row for row in rows if row["metric"] == "dice"]
    for key in dict.fromkeys((r["unit"], r["over"], r["convention"]) for r in dice):
        unit, over, convention = key
        means = [
            row["mean"]
            for row in dice
            if (row["unit"], row["over"], row["convention"]) == key and row["of"] in CLASSES[1:]
        ]
        count = max(r["count"] for r in dice if (r["unit"], r["over"], r["convention"]) == key)
        values = (stage, unit, over, MEAN_FOREGROUND, "dice", convention, _mean(means), count)
        rows.append(dict(zip((*KEYS, "mean", "count"), values, strict=True)))
    return rows


def write_unit_tables(
    directory: Path, stage: str, tally: SegmentationTally | PretrainingTally
) -> None:
    """Writes evaluation_<stage>.csv, a line for each slice, and ..._patients.csv for volumes.

    Without a whole volume there is no such table; one that another evaluation left goes.

    A number that is not defined (a distance to an empty mask, a Dice of two) is left empty.
    """
    slices = tally.slices
    names = slices.patients
    if isinstance(tally, PretrainingTally):
        columns = {name.replace("/", " "): values for name, values in tally.values.items()}
        places = [(names[p], int(n)) for p, n in zip(slices.patient, slices.number, strict=True)]
        _write_csv(directory / f"evaluation_{stage}.csv", ("patient", "slice"), places, columns)
        return
    scores = list(conventions.segmentation_scores(tally))
    in_plane = {
        **{
            f"{of} {c}": tally.counts[:, r, k]
            for r, of in enumerate(SCORED)
            for k, c in enumerate(("tp", "fp", "fn"))
        },
        **_columns(scores, "slice", "all slices", ("present_only", "both_present")),
    }
    places = [(names[p], int(n)) for p, n in zip(slices.patient, slices.number, strict=True)]
    _write_csv(directory / f"evaluation_{stage}.csv", ("patient", "slice"), places, in_plane)
    of_volumes = directory / f"evaluation_{stage}_patients.csv"
    if slices.whole.any():
        volumes = _columns(scores, "patient", "volumes", conventions.VOLUME_CONVENTIONS)
        whole = [(name,) for name in names[slices.whole]]
        _write_csv(of_volumes, ("patient",), whole, volumes)
    else:
        of_volumes.unlink(missing_ok=True)


def _columns(
    scores: Sequence[Scores], unit: str, over: str, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Columns 'region metric', with the convention named where there are several of one."""
    chosen = [s for s in scores if s.unit == unit and s.over == over and s.metric != "in_truth"]
    columns = {}
    for score in chosen:
        if score.unit == "slice" and score.metric == "dice" and score.convention not in names:
            continue  # the others follow from which cells of this one are empty
        alone = score.unit == "slice" or score.metric not in SEVERAL
        suffix = "" if alone else f" ({score.convention})"
        columns[f"{score.of} {score.metric}{suffix}"] = score.values
    return columns


def _write_csv(
    path: Path,
    head: Sequence[str],
    places: Sequence[Sequence[Any]],
    columns: dict[str, np.ndarray],
) -> None:
    with atomic_open(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*head, *columns])
        for row, place in enumerate(places):
            writer.writerow([*place, *(_cell(column[row]) for column in columns.values())])


def _cell(value: Any) -> str:
    if isinstance(value, np.integer):
        return str(int(value))
    return "" if np.isnan(value) else f"{float(value):.6g}"


def read_evaluations(workdir: Path, num_folds: int) -> list[dict[str, Any]]:
    """The evaluation.json of every fold that has one of this version, in order."""
    found = []
    for fold in range(num_folds):
        try:
            document = json.loads((workdir / f"fold_{fold}" / "evaluation.json").read_text())
        except (OSError, ValueError):
            continue
        # Numbers of another version are not averaged with ours.
        if isinstance(document, dict) and document.get("version") == EVALUATION_VERSION:
            found.append(document)
    return found


def summarise_run(workdir: Path, num_folds: int) -> dict[str, Any]:
    """Collects the evaluated folds of a run into summary.json and summary.csv."""
    folds = read_evaluations(workdir, num_folds)
    same = ("set", "slices", "split_by", "patients", "loss", "ssl", "inputs", "target")
    facts = {key: folds[0][key] for key in same}
    rows = _over_folds(folds)
    summary = {
        "schema": "brats_jax.summary",
        "version": 2,
        "folds": [document["fold"] for document in folds],
        "of_folds": num_folds,
        **facts,
        "rows": rows,
    }
    write_json(workdir / "summary.json", summary)
    told = ("patients", "set", "slices", "split_by", "loss", "ssl")
    with atomic_open(workdir / "summary.csv") as file:
        head = [*KEYS, "mean", "sd_over_folds", "folds", "count", *told]
        writer = csv.DictWriter(file, head, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **{key: facts[key] for key in told}} for row in rows)
    return summary


def _over_folds(folds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each number: its mean over the folds that have it, their SD, the units."""
    by_key: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for document in folds:
        for row in document["rows"]:
            by_key.setdefault(tuple(row[k] for k in KEYS), []).append(row)
    rows = []
    for key, cells in by_key.items():
        known = [cell["mean"] for cell in cells if _known(cell["mean"])]
        rows.append(
            {
                **dict(zip(KEYS, key, strict=True)),
                "mean": float(np.mean(known)) if known else None,
                "sd_over_folds": float(np.std(known, ddof=1)) if len(known) > 1 else None,
                "folds": len(known),
                "count": max(cell["count"] for cell in cells),
            }
        )
    return rows


def find(rows: Iterable[dict[str, Any]], **wanted: str) -> dict[str, Any] | None:
    """The first row whose keys have the wanted values, or None."""
    for row in rows:
        if all(row[key] == value for key, value in wanted.items()):
            return row
    return None


def format_summary(summary: dict[str, Any]) -> str:
    """The tables a run prints: conventions side by side, what they are over, in plain text."""
    folds = ", ".join(map(str, summary["folds"]))
    leak = "" if summary["split_by"] == "patient" else "  (patients on both sides: too good)"
    lines = [
        "",
        f"Test set: {plural(summary['patients'], 'patient')}, {summary['slices']} slices, split by "
        f"{summary['split_by']}{leak}; mean over fold {folds} of {summary['of_folds']}",
    ]
    rows = summary["rows"]
    if any(row["stage"] == "pretrain" for row in rows):
        lines += _pretext_table(summary)
    if any(row["stage"] == "segment" for row in rows):
        lines += _slice_table(summary)
        if any(row["over"] == "volumes" for row in rows):
            lines += _volume_table(summary)
    return "\n".join(lines)


def _pretext_table(summary: dict[str, Any]) -> list[str]:
    inputs = ", ".join(DISPLAY_NAMES[name] for name in summary["inputs"])
    title = f"{DISPLAY_NAMES[summary['target']]} from {inputs}"
    lines = ["", title.ljust(_FIRST_COLUMN) + "MSE      PSNR dB  SSIM"]
    for region in ("slice", "brain", "tumour"):
        cells = [
            _number(
                find(summary["rows"], stage="pretrain", of=region, metric=metric, convention=rule),
                digits,
            )
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


def _slice_table(summary: dict[str, Any]) -> list[str]:
    rows = [r for r in summary["rows"] if r["over"] == "all slices" and r["stage"] == "segment"]
    loss = f"{summary['loss']}, {'SSL' if summary['ssl'] else 'no SSL'}"
    head = "  by slice".ljust(_FIRST_COLUMN)
    head += "".join(f"Dice {c}".ljust(21) for c in overlap.CONVENTIONS) + "ASD mm (slices)"
    lines = ["", f"Segmentation ({loss})", head]
    for name in (*CLASSES, MEAN_FOREGROUND):
        line = f"    {name}".ljust(_FIRST_COLUMN)
        for convention in overlap.CONVENTIONS:
            cell = find(rows, of=name, metric="dice", convention=convention)
            # That of the foreground is a mean of means, over no slices of its own.
            show = _number if name == MEAN_FOREGROUND else _counted
            line += show(cell, 4).ljust(21)
        line += _counted(find(rows, of=name, metric="asd_mm"), 2)
        lines.append(line.rstrip())
    lines += [f"  {c}: {overlap.CONVENTION_NOTES[c]}" for c in overlap.CONVENTIONS]
    lines.append("  mean foreground: of the three classes' means")
    lines.append("  ASD: pooled over both boundaries, slices where both masks hold the class")
    return lines


def _volume_table(summary: dict[str, Any]) -> list[str]:
    rows = [r for r in summary["rows"] if r["over"] == "volumes"]
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
            cell = find(rows, of=name, metric=metric, convention=convention)
            line += ("" if cell is None else _counted(cell, digits)).ljust(21)
        lines.append(line.rstrip())
    lines.append(f"  brats2020: {conventions.NOTES['brats2020']}")
    return lines


def _counted(row: dict[str, Any] | None, digits: int) -> str:
    return "" if row is None else f"{_number(row, digits)} ({row['count']})"


def _number(row: dict[str, Any] | None, digits: int) -> str:
    return "-" if row is None or row["mean"] is None else f"{row['mean']:.{digits}f}"


def _known(value: float | None) -> bool:
    return value is not None and not np.isnan(value)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if _known(value)]
    return float(np.mean(known)) if known else float("nan")
