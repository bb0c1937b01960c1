"""Sidecars: the JSON file beside a prediction, with the model, the settings and the files.

A sidecar is written after the files that it names: where it is, they are complete. DIR/volumes.csv
collects the volumes of all cases in a folder from their sidecars.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brats_jax.data.scans import provenance
from brats_jax.inference.postprocess import MEASURED
from brats_jax.runtime.files import atomic_open

KIND: Mapping[str, Any] = {"schema": "brats_jax.prediction", "schema_version": 1}
TABLE = "volumes.csv"


def path_beside(output: Path) -> Path:
    """NAME.json beside NAME.nii or NAME.nii.gz."""
    return output.with_name(output.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def is_ours(path: Path) -> bool:
    """Whether this program wrote the JSON file at `path`."""
    try:
        return json.loads(path.read_text())["program"] == provenance.OURS
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read(path: Path) -> dict[str, Any] | None:
    """The sidecar at `path`; None if it is missing, unreadable or of another version."""
    try:
        document = json.loads(path.read_text())
        known = all(document[name] == value for name, value in KIND.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return document if known else None


def is_complete(directory: Path, document: Mapping[str, Any]) -> bool:
    """Whether all files that a sidecar names are there and have their recorded size."""
    try:
        return all(
            (directory / name).stat().st_size == size for name, size in document["files"].items()
        )
    except OSError:
        return False


def differences(document: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The ways in which a prediction was made that differ from now.

    Args:
      document: the sidecar of the prediction.
      now: `Model.describe()` of the model in use.
    """
    found = []
    if document["model"]["hash"] != now["model"]["hash"]:
        found.append("made by another model")
    settings = ("averaged", "min_component_mm3", "min_et_mm3")
    temperatures = [[f["temperature"] for f in d["model"]["folds"]] for d in (document, now)]
    if any(document[name] != now[name] for name in settings) or (
        temperatures[0] != temperatures[1]
    ):
        found.append("made with other settings")
    return found


def write_table(directory: Path) -> Path | None:
    """Writes volumes.csv of the segmentations in a folder; returns None if there are none."""
    rows = []
    for path in sorted(directory.glob("*_seg.json")):
        document = read(path)
        if document is not None and "volumes_ml" in document and is_complete(directory, document):
            rows.append(_row(document))
    if not rows:
        return None
    with atomic_open(directory / TABLE) as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return directory / TABLE


def _row(document: Mapping[str, Any]) -> dict[str, Any]:
    averaged = document["averaged"]
    row = {"case": document["case"], "predictions": averaged["folds"] * averaged["flips"]}
    for name in MEASURED:
        estimate = document["volumes_ml"][name]
        for field, title in (("ml", "ml"), ("low_ml", "low ml"), ("high_ml", "high ml")):
            value = estimate[field]
            row[f"{name} {title}"] = "" if value is None else f"{value:.3f}"
    return {**row, "model": document["model"]["hash"][:12], "version": document["version"],
            "use": "research only"}  # fmt: skip
