"""What stands beside a predicted case: which model made it, how, and which files are whole.

A sidecar is written last, and so says that the files it names are there. DIR/volumes.csv gathers
the volumes of all cases in a folder from them.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brats_jax.inference.model import Model
from brats_jax.inference.postprocess import MEASURED
from brats_jax.runtime.files import atomic_open

KIND: Mapping[str, Any] = {"schema": "brats_jax.prediction", "schema_version": 1}
TABLE = "volumes.csv"


def read(path: Path) -> dict[str, Any] | None:
    """A sidecar of this program and version, or None."""
    try:
        document = json.loads(path.read_text())
        known = all(document[name] == value for name, value in KIND.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return document if known else None


def is_whole(directory: Path, document: Mapping[str, Any]) -> bool:
    """Whether all files that a sidecar names are there, and of the size it gives."""
    try:
        return all(
            (directory / name).stat().st_size == size for name, size in document["files"].items()
        )
    except OSError:
        return False


def differences(document: Mapping[str, Any], model: Model) -> list[str]:
    """How what is there was made in another way than it would be now."""
    now = model.describe()
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
    """Rewrites volumes.csv from what lies in a folder; None if there is no segmentation."""
    rows = []
    for path in sorted(directory.glob("*_seg.json")):
        document = read(path)
        if document is not None and "volumes_ml" in document and is_whole(directory, document):
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
