"""What is written of a predicted case: volumes on the input's grid, and what made them.

DIR/CASE_seg.nii.gz                labels, in the grid, axes and data type of the images
DIR/CASE_prob_{WT,TC,ET}.nii.gz    probability of each region, if asked for
DIR/CASE_entropy.nii.gz            entropy of the mean probabilities in nats, if asked for
DIR/CASE_seg.json                  model, settings, files, volumes; written last
DIR/CASE_flair_synthetic.nii.gz    float32 z-scores; .json as above
DIR/CASE_flair_error.nii.gz        synthetic minus real, where there is a real one
DIR/volumes.csv                    of every case in DIR, from the .json files
"""

import csv
import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brats_jax.data import nifti_writing
from brats_jax.data.modalities import CLASSES, NUM_CLASSES, REGIONS
from brats_jax.errors import BratsError
from brats_jax.files import atomic_open, write_json
from brats_jax.inference import Model, Reconstructed, Segmented, label_values
from brats_jax.postprocess import MEASURED
from brats_jax.tasks import Reconstruction

SCHEMA = "brats_jax.prediction"
VERSION = 1
TABLE = "volumes.csv"
_OURS = "brats_jax"  # is in the header of whatever this program wrote


@dataclass(frozen=True)
class Wanted:
    """What is to be written.

    Attributes:
      et_label: value of ET, 3 or 4.
      probabilities, uncertainty: maps beside the labels.
      overwrite: replace what this program has written before.
    """

    et_label: int = 4
    probabilities: bool = False
    uncertainty: bool = False
    overwrite: bool = False

    @property
    def details(self) -> bool:
        """Whether the labels alone do not do."""
        return self.probabilities or self.uncertainty


def earlier(directory: Path, case: str, model: Model, wanted: Wanted) -> str:
    """Why nothing is to be done for a case: it is there. Empty if there is something to do.

    Raises:
      BratsError: a file in the way is not of this program.
    """
    stem = _stem(case, model)
    path = directory / f"{stem}.nii.gz"
    if path.exists() and _OURS not in nifti_writing.header_note(path):
        raise BratsError(
            f"{path} is there and not of this program (labels by hand?): give another --output"
        )
    document = _read(directory / f"{stem}.json")
    if wanted.overwrite or document is None or not _is_whole(directory, document):
        return ""
    other = _differences(document, model, wanted)
    return f"kept, {' and '.join(other)}; --overwrite makes it anew" if other else "kept"


def write_segmentation(directory: Path, found: Segmented, model: Model, wanted: Wanted) -> Path:
    """Writes all that is wanted of a case; returns the path of the labels."""
    scan, case = found.scan, found.scan.name
    path = directory / f"{_stem(case, model)}.nii.gz"
    images = {
        path: nifti_writing.label_image(scan, label_values(found, wanted.et_label), model.note)
    }
    if wanted.probabilities and found.probabilities is not None:
        for region, labels in REGIONS.items():
            p = scan.to_input(found.probabilities[..., list(labels)].sum(axis=-1), nearest=False)
            images[directory / f"{case}_prob_{region}.nii.gz"] = nifti_writing.fraction_image(
                scan, p, 1.0, model.note
            )
    if wanted.uncertainty and found.entropy is not None:
        entropy = scan.to_input(found.entropy, nearest=False)
        images[directory / f"{case}_entropy.nii.gz"] = nifti_writing.fraction_image(
            scan, entropy, math.log(NUM_CLASSES), model.note
        )
    values = (0, 1, 2, wanted.et_label)
    _write_all(
        images,
        found,
        model,
        {
            "labels": dict(zip(map(str, values), CLASSES, strict=True)),
            "entropy_unit": "nats",
            "volumes_ml": {name: estimate._asdict() for name, estimate in found.volumes.items()},
        },
    )
    return path


def write_reconstruction(directory: Path, found: Reconstructed, model: Model) -> Path:
    """Writes the synthetic modality, and its error where the real one is there."""
    scan = found.scan
    path = directory / f"{_stem(scan.name, model)}.nii.gz"
    numbers = {path: found.image}
    if found.error is not None:
        numbers[directory / f"{scan.name}_{found.target}_error.nii.gz"] = found.error
    images = {
        place: nifti_writing.number_image(scan, scan.to_input(n, nearest=False), model.note)
        for place, n in numbers.items()
    }
    unit = f"z-scores, normalised by {model.trained.normalisation}"
    _write_all(images, found, model, {"target": found.target, "unit": unit, "mse_brain": found.mse})
    return path


def write_table(directory: Path) -> Path | None:
    """Rewrites volumes.csv from what lies in a folder; None if there is no segmentation."""
    rows = []
    for path in sorted(directory.glob("*_seg.json")):
        document = _read(path)
        if document is not None and "volumes_ml" in document and _is_whole(directory, document):
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


def _stem(case: str, model: Model) -> str:
    stage = model.trained.stage
    return (
        f"{case}_{stage.target}_synthetic" if isinstance(stage, Reconstruction) else f"{case}_seg"
    )


def _write_all(
    images: Mapping[Path, Any],
    found: Segmented | Reconstructed,
    model: Model,
    facts: Mapping[str, Any],
) -> None:
    """Writes the volumes, and after them the sidecar that says they are whole."""
    sidecar = next(iter(images)).with_suffix("").with_suffix(".json")
    sidecar.unlink(missing_ok=True)  # what it says is no longer so
    for path, image in images.items():
        nifti_writing.write_image(path, image)
    scan = found.scan
    description = model.describe()
    write_json(
        sidecar,
        {
            "schema": SCHEMA,
            "schema_version": VERSION,
            "case": scan.name,
            **description,
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "inputs": dict(scan.files),
            "notes": model.notes(scan),
            **facts,
            "files": {path.name: path.stat().st_size for path in images},
        },
    )


def _read(path: Path) -> dict[str, Any] | None:
    """A sidecar of this program and version, or None."""
    try:
        document = json.loads(path.read_text())
        known = (document["schema"], document["schema_version"]) == (SCHEMA, VERSION)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return document if known else None


def _is_whole(directory: Path, document: Mapping[str, Any]) -> bool:
    try:
        return all(
            (directory / name).stat().st_size == size for name, size in document["files"].items()
        )
    except OSError:
        return False


def _differences(document: Mapping[str, Any], model: Model, wanted: Wanted) -> list[str]:
    """How what is there is not what is asked for now."""
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
    if model.trained.task == "segment":
        if str(wanted.et_label) not in document["labels"]:
            found.append(f"ET is not {wanted.et_label} there")
        if wanted.probabilities and not any("_prob_" in name for name in document["files"]):
            found.append("without probabilities")
        if wanted.uncertainty and not any("_entropy" in name for name in document["files"]):
            found.append("without uncertainty")
    return found
