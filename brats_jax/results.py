"""Tables and CSV out of evaluated folds."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES
from brats_jax.data.store import Store
from brats_jax.evaluate import Columns
from brats_jax.files import atomic_open, write_json
from brats_jax.metrics import overlap

IMAGE_METRICS = ("mse", "psnr", "ssim", "brain_mse", "brain_psnr", "brain_ssim")


def write_slice_table(path: Path, store: Store, columns: Columns) -> None:
    """Writes one line for each slice: patient, slice number, and every number there is.

    A Dice of a class in neither mask, and a distance to an empty mask, are left empty.
    """
    header = ["patient", "slice"]
    values: list[np.ndarray] = []
    if "counts" in columns:
        dice = np.asarray(overlap.dice(columns["counts"]))
        for k, name in enumerate(CLASSES):
            header += [f"{name} {part}" for part in ("tp", "fp", "fn", "dice", "asd_mm")]
            values += [*columns["counts"][:, k].T, dice[:, k], columns["asd_mm"][:, k]]
    else:
        header += IMAGE_METRICS
        values += [columns[name] for name in IMAGE_METRICS]
    with atomic_open(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row, index in enumerate(columns["index"]):
            place = [store.patients[store.patient_of[index]], int(store.slice_number[index])]
            writer.writerow(place + [_cell(column[row]) for column in values])


def _cell(value: Any) -> str:
    if isinstance(value, np.integer):
        return str(int(value))
    return "" if np.isnan(value) else f"{float(value):.6g}"


def summarise_run(workdir: Path, num_folds: int) -> dict[str, Any]:
    """Collects the evaluated folds of a run into summary.json and summary.csv."""
    folds = []
    for fold in range(num_folds):
        path = workdir / f"fold_{fold}" / "evaluation.json"
        if path.exists():
            folds.append(json.loads(path.read_text()))
    rows = _rows(folds)
    summary = {
        "schema": "brats_jax.summary",
        "version": 1,
        "folds": [document["fold"] for document in folds],
        "of_folds": num_folds,
        **{
            key: folds[0][key]
            for key in ("set", "slices", "split_by", "patients", "loss", "ssl", "inputs", "target")
        },
        "rows": rows,
    }
    write_json(workdir / "summary.json", summary)
    with atomic_open(workdir / "summary.csv") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return summary


def _rows(folds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each number: its mean over folds, their standard deviation, the slices."""
    rows = []

    def add(
        stage: str, of: str, metric: str, convention: str, cells: list[tuple[Any, int]]
    ) -> None:
        known = [float(value) for value, _ in cells if value is not None]
        rows.append(
            {
                "stage": stage,
                "of": of,
                "metric": metric,
                "convention": convention,
                "mean": float(np.mean(known)) if known else None,
                "sd_over_folds": float(np.std(known, ddof=1)) if len(known) > 1 else None,
                "folds": len(known),
                "slices": max(slices for _, slices in cells),
                "patients": folds[0]["patients"],
                "set": folds[0]["set"],
                "slice_choice": folds[0]["slices"],
                "split_by": folds[0]["split_by"],
                "loss": folds[0]["loss"],
                "ssl": folds[0]["ssl"],
            }
        )

    def cell(entry: dict[str, Any]) -> tuple[Any, int]:
        return entry["mean"], entry["slices"]

    if all("pretrain" in fold for fold in folds):
        for name in IMAGE_METRICS:
            region, _, metric = name.rpartition("_")
            add(
                "pretrain",
                region or "slice",
                metric,
                "" if metric == "mse" else "range of the target slice",
                [cell(fold["pretrain"][name]) for fold in folds],
            )
    # Where only pretraining was asked for, there is nothing more.
    folds = [fold for fold in folds if "segment" in fold]
    if not folds:
        return rows
    for convention in overlap.CONVENTIONS:
        for name in CLASSES:
            of_class = [fold["segment"]["classes"][name]["dice"][convention] for fold in folds]
            add("segment", name, "dice", convention, [cell(entry) for entry in of_class])
        foreground = [
            (fold["segment"]["mean_foreground_dice"][convention], fold["segment"]["slices"])
            for fold in folds
        ]
        add("segment", "mean foreground", "dice", convention, foreground)
    for name in CLASSES:
        entries = [fold["segment"]["classes"][name]["asd_mm"] for fold in folds]
        add("segment", name, "asd_mm", "pooled, both masks present", [cell(e) for e in entries])
    return rows


def format_summary(summary: dict[str, Any]) -> str:
    """The tables a run prints: conventions side by side, what they are over, in plain text."""
    by = {(r["stage"], r["of"], r["metric"], r["convention"]): r for r in summary["rows"]}
    folds = ", ".join(map(str, summary["folds"]))
    leak = "" if summary["split_by"] == "patient" else "  (patients on both sides: too good)"
    lines = [
        "",
        f"Test set: {summary['patients']} patients, {summary['slices']} slices, split by "
        f"{summary['split_by']}{leak}; mean over fold {folds} of {summary['of_folds']}",
    ]
    pretrain = [r for r in summary["rows"] if r["stage"] == "pretrain"]
    if pretrain:
        lines += ["", _pretext_title(summary).ljust(34) + "MSE      PSNR dB  SSIM"]
        for region in ("slice", "brain"):
            cells = [
                _number(r, digits)
                for metric, digits in (("mse", 4), ("psnr", 2), ("ssim", 4))
                for r in pretrain
                if r["of"] == region and r["metric"] == metric
            ]
            lines.append(f"  {region}".ljust(34) + "".join(c.ljust(9) for c in cells))
        lines.append(
            "  PSNR and SSIM: range of each target slice; means over slices that are not blank"
        )
    if len(pretrain) == len(summary["rows"]):
        return "\n".join(lines)
    conventions = list(overlap.CONVENTIONS)
    loss = f"{summary['loss']}, {'SSL' if summary['ssl'] else 'no SSL'}"
    head = f"Segmentation ({loss})".ljust(34)
    head += "".join(f"Dice {c}".ljust(21) for c in conventions) + "ASD mm (slices)"
    lines += ["", head.rstrip()]
    for name in (*CLASSES, "mean foreground"):
        dice = [by["segment", name, "dice", c] for c in conventions]
        line = f"  {name}".ljust(34)
        line += "".join(f"{_number(r, 4)} ({r['slices']})".ljust(21) for r in dice)
        distance = by.get(("segment", name, "asd_mm", "pooled, both masks present"))
        if distance is not None:
            line += f"{_number(distance, 2)} ({distance['slices']})"
        lines.append(line.rstrip())
    lines += [f"  {c}: {overlap.CONVENTION_NOTES[c]}" for c in conventions]
    lines.append("  ASD: pooled over both boundaries, slices where both masks hold the class")
    return "\n".join(lines)


def _pretext_title(summary: dict[str, Any]) -> str:
    inputs = ", ".join(DISPLAY_NAMES[name] for name in summary["inputs"])
    return f"{DISPLAY_NAMES[summary['target']]} from {inputs}"


def _number(row: dict[str, Any], digits: int) -> str:
    return "-" if row["mean"] is None else f"{row['mean']:.{digits}f}"
