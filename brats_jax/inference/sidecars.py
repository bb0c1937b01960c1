"""Sidecars of predictions: reading, comparing, and the table of all volumes in a folder.

A sidecar is the JSON file beside a prediction, with the model, the settings and the files. It is
written after the files that it names: if it exists, they are complete.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brats_jax.data.scans import provenance
from brats_jax.errors import BratsError
from brats_jax.inference.postprocess import MEASURED, Cleaning
from brats_jax.runs.folder import PredictionFolder
from brats_jax.runs.sidecars import (
    Averaged,
    ModelFacts,
    SegmentationSidecar,
    Sidecar,
    VolumeRange,
    missing_files,
)
from brats_jax.runtime.document import read_document, read_if_readable
from brats_jax.runtime.files import read_json, write_text
from brats_jax.runtime.text import csv_cell

# Columns of volumes.csv with the inputs that a case lacks: a modality is in one of them.
_LACKING = ("missing", "synthetic")


def path_beside(output: Path) -> Path:
    """NAME.json beside NAME.nii or NAME.nii.gz."""
    return output.with_name(output.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def is_ours(path: Path) -> bool:
    """Whether this program, in any version, wrote the JSON file at `path`."""
    try:
        return read_json(path, "").get("program") == provenance.OURS
    except BratsError:
        return False


def differences(
    before: Sidecar,
    model: ModelFacts,
    averaged: Averaged,
    cleaning: Cleaning,
    missing: tuple[str, ...] = (),
    synthetic: Mapping[str, str] | None = None,
) -> list[str]:
    """How an earlier prediction differs from the present model and settings.

    Args:
      before: the sidecar of the prediction.
      model, averaged, cleaning: the model in use and its settings.
      missing, synthetic: as in `Sidecar`, of the case as it is now.
    """
    found = []
    if before.model.hash != model.hash:
        found.append("made by another model")
    temperatures = [[fold.temperature for fold in m.folds] for m in (before.model, model)]
    cleaned = Cleaning(before.min_component_mm3, before.min_et_mm3, before.clear_air)
    if (before.averaged, cleaned, temperatures[0]) != (averaged, cleaning, temperatures[1]):
        found.append("made with other settings")
    if (before.missing, before.synthetic) != (missing, dict(synthetic or {})):
        found.append("made from other modalities")
    return found


def table_of(folder: PredictionFolder, *, changed: bool = False) -> str:
    """The text of volumes.csv from the segmentations in a folder; empty if there are none.

    Args:
      folder: the folder.
      changed: includes segmentations that were edited or removed since they were written.
    """
    rows, lacking = [], False
    for path in folder.segmentation_jsons():
        sidecar = read_if_readable(path, SegmentationSidecar)
        if sidecar is None or sidecar.volumes_ml is None:
            continue
        if not {*MEASURED} <= {*sidecar.volumes_ml}:  # of another program
            continue
        if changed or not missing_files(folder.path, sidecar.files):
            rows.append(_row(sidecar, sidecar.volumes_ml))
            lacking = lacking or bool(sidecar.missing or sidecar.synthetic)
    if not rows:
        return ""
    if not lacking:  # the columns of a table of whole cases
        rows = [{k: v for k, v in row.items() if k not in _LACKING} for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_table(folder: PredictionFolder, before: str = "") -> str:
    """Writes volumes.csv of the segmentations in a folder.

    Args:
      folder: the folder.
      before: `table_of` the folder before its predictions changed. A volumes.csv with other lines
        than those of then and now was edited, and is kept.

    Returns:
      A line for the user where the table is kept, also because the sidecar of a case has changed;
      otherwise empty.
    """
    for path in folder.segmentation_jsons():
        if reason := _unreadable(path):
            return f"{reason}; {folder.volumes_csv} is left as it was"
    text = table_of(folder)
    try:
        there = folder.volumes_csv.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        there = ""
    written = table_of(folder, changed=True)
    if not {*there.splitlines()} <= {*written.splitlines(), *before.splitlines()}:
        return (
            f"{folder.volumes_csv} has changed since this program wrote it, or a description of "
            "a case in it is gone: kept; move it away, and give the same command again for a new "
            "one"
        )
    if text and text != there and folder.volumes_csv.is_symlink():
        return (
            f"{folder.volumes_csv} is a link, which this program did not write: kept; move it "
            "away, and give the same command again for a new one"
        )
    if text and text != there:
        write_text(folder.volumes_csv, text)
    return ""


def _unreadable(path: Path) -> str:
    """Why a sidecar of this program cannot be read; empty if it can, or is another program's."""
    remedy = "copy it again, or move its case away and predict it again"
    try:
        if read_json(path, remedy).get("schema") == SegmentationSidecar.SCHEMA:
            read_document(path, SegmentationSidecar, remedy)
    except BratsError as error:
        labels = path.with_suffix(".nii.gz")
        return str(error) if provenance.is_predicted(labels) else ""
    return ""


def _row(sidecar: SegmentationSidecar, volumes: dict[str, VolumeRange]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "case": csv_cell(sidecar.case),
        "predictions": sidecar.averaged.count,
    }
    for name in MEASURED:
        volume = volumes[name]
        for title, value in (
            ("ml", volume.ml),
            ("low ml", volume.low_ml),
            ("high ml", volume.high_ml),
        ):
            row[f"{name} {title}"] = "" if value is None else f"{value:.3f}"
    row |= {"missing": " ".join(sidecar.missing), "synthetic": " ".join(sidecar.synthetic)}
    hash_, version = sidecar.model.hash[:12], sidecar.version
    return {**row, "model": csv_cell(hash_), "version": csv_cell(version), "use": "research only"}
