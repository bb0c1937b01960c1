"""What is written of a predicted case: volumes on the input's grid, and what made them.

DIR/CASE_seg.nii.gz                labels, in the grid, axes and data type of the images
DIR/CASE_prob_{WT,TC,ET}.nii.gz    probability of each region, if asked for
DIR/CASE_entropy.nii.gz            entropy of the mean probabilities in nats, if asked for
DIR/CASE_seg.png, .html            picture and page to look at, if asked for
DIR/CASE_seg.json                  model, settings, files, volumes; written last
DIR/CASE_flair_synthetic.nii.gz    float32 z-scores; .json as above
DIR/CASE_flair_error.nii.gz        synthetic minus real, where there is a real one
DIR/volumes.csv                    of every case in DIR, from the .json files
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import CLASSES, NUM_CLASSES, REGIONS
from brats_jax.data.scans import provenance, writing
from brats_jax.errors import BratsError
from brats_jax.inference import sidecars
from brats_jax.inference.model import Model
from brats_jax.inference.results import Reconstructed, Segmented, label_values
from brats_jax.runtime.files import write_json
from brats_jax.tasks import Pretraining
from brats_jax.viewer import case_view, write_overview, write_page

# All that a case can leave, for `files.remove_stale`.
NAMES = re.compile(
    r".+_(seg|entropy|prob_(WT|TC|ET)|(t1|t1gd|t2|flair)_(synthetic|error))\.(nii\.gz|json)"
    r"|.+_seg\.(png|html)|volumes\.csv"
)

Write = Callable[[Path], object]


@dataclass(frozen=True)
class OutputOptions:
    """What is to be written.

    Attributes:
      et_label: value of ET, 3 or 4.
      probabilities, uncertainty: maps beside the labels.
      picture, page: to look at.
      overwrite: replace what this program has written before.
    """

    et_label: int = 4
    probabilities: bool = False
    uncertainty: bool = False
    picture: bool = False
    page: bool = False
    overwrite: bool = False

    @property
    def details(self) -> bool:
        """Whether the labels alone do not do."""
        return self.probabilities or self.uncertainty


def earlier(directory: Path, case: str, model: Model, wanted: OutputOptions) -> str:
    """Why nothing is to be done for a case: it is there. Empty if there is something to do.

    What the same model has left under the same settings is completed by what it lacks.

    Raises:
      BratsError: a file in the way is no prediction of this program.
    """
    names = _names(case, model, wanted)
    for name in names.values():
        path = directory / name
        if path.exists() and not _is_predicted(path):
            raise BratsError(
                f"{path} is there and no prediction of this program (a reader's labels?): give "
                "another --output"
            )
    document = sidecars.read(directory / f"{_stem(case, model)}.json")
    if wanted.overwrite or document is None or not sidecars.is_whole(directory, document):
        return ""
    other = sidecars.differences(document, model)
    if model.trained.task_name == "segment" and str(wanted.et_label) not in document["labels"]:
        other.append(f"ET is not {wanted.et_label} there")
    lacking = sorted({what for what, name in names.items() if name not in document["files"]})
    if other:
        other += [f"without {what}" for what in lacking]
        return f"kept, {' and '.join(other)}; --overwrite makes it anew"
    return "" if lacking else "kept"


def with_earlier(directory: Path, case: str, model: Model, wanted: OutputOptions) -> OutputOptions:
    """What is wanted of a case, and whatever else of it the same model has left there."""
    document = sidecars.read(directory / f"{_stem(case, model)}.json")
    if document is None or sidecars.differences(document, model):
        return wanted
    names = _names(case, model, dataclasses.replace(wanted, **dict.fromkeys(_EXTRAS, True)))
    there = {what: True for what in _EXTRAS if names.get(what) in document["files"]}
    return dataclasses.replace(wanted, **there)


def write_segmentation(
    directory: Path,
    found: Segmented,
    model: Model,
    wanted: OutputOptions,
    truth: np.ndarray | None = None,
) -> Path:
    """Writes all that is wanted of a case; returns the path of the labels.

    Args:
      truth: uint8[slices, H, W], to be shown in picture and page, or None.
    """
    scan, case = found.scan, found.scan.name
    names = _names(case, model, wanted)
    path = directory / names["labels"]
    values = label_values(found, wanted.et_label)
    ours = (0, 1, 2, wanted.et_label)
    record = _record(
        found,
        model,
        {
            "labels": dict(zip(map(str, ours), CLASSES, strict=True)),
            "entropy_unit": "nats",
            "volumes_ml": {name: estimate._asdict() for name, estimate in found.volumes.items()},
        },
    )
    files: dict[str, Write] = {
        names["labels"]: _image(writing.label_image(scan, values, model.note))
    }
    if wanted.probabilities and found.probabilities is not None:
        for region, labels in REGIONS.items():
            p = scan.to_input(found.probabilities[..., list(labels)].sum(axis=-1), nearest=False)
            files[_map_name(case, region)] = _image(
                writing.fraction_image(scan, p, 1.0, model.note)
            )
    if wanted.uncertainty and found.entropy is not None:
        entropy = scan.to_input(found.entropy, nearest=False)
        files[names["uncertainty"]] = _image(
            writing.fraction_image(scan, entropy, math.log(NUM_CLASSES), model.note)
        )
    if wanted.picture or wanted.page:
        if not wanted.uncertainty:
            found = dataclasses.replace(found, entropy=None)
        view = case_view(model, found, truth, record)
        if wanted.picture:
            files[names["picture"]] = functools.partial(write_overview, case=view)
        if wanted.page:
            picture = directory / names["picture"] if wanted.picture else None
            files[names["page"]] = functools.partial(write_page, case=view, picture=picture)
    _write_all(directory / f"{_stem(case, model)}.json", files, record)
    return path


def write_reconstruction(directory: Path, found: Reconstructed, model: Model) -> Path:
    """Writes the synthetic modality, and its error where the real one is there."""
    scan = found.scan
    name = f"{_stem(scan.name, model)}.nii.gz"
    numbers = {name: found.image}
    if found.error is not None:
        numbers[f"{scan.name}_{found.target}_error.nii.gz"] = found.error
    files = {
        name: _image(writing.number_image(scan, scan.to_input(n, nearest=False), model.note))
        for name, n in numbers.items()
    }
    record = _record(found, model, model.synthetic_facts(found))
    _write_all(directory / f"{_stem(scan.name, model)}.json", files, record)
    return directory / name


def _stem(case: str, model: Model) -> str:
    stage = model.trained.task
    return f"{case}_{stage.target}_synthetic" if isinstance(stage, Pretraining) else f"{case}_seg"


_EXTRAS = ("probabilities", "uncertainty", "picture", "page")


def _names(case: str, model: Model, wanted: OutputOptions) -> dict[str, str]:
    """The files that are wanted of a case, by what asks for them; of several maps the last."""
    stem = _stem(case, model)
    names = {
        "probabilities": _map_name(case, list(REGIONS)[-1]),
        "uncertainty": f"{case}_entropy.nii.gz",
        "picture": f"{stem}.png",
        "page": f"{stem}.html",
    }
    asked = {what: name for what, name in names.items() if getattr(wanted, what)}
    return {"labels": f"{stem}.nii.gz", **asked}


def _map_name(case: str, region: str) -> str:
    return f"{case}_prob_{region}.nii.gz"


def _image(image: Any) -> Write:
    return functools.partial(writing.write_image, image=image)


def _is_predicted(path: Path) -> bool:
    if path.suffix == ".gz":
        return provenance.is_predicted(path)
    try:
        with path.open("rb") as file:  # a comment of the PNG, the generator of the page
            return provenance.OURS.encode() in file.read(1000)
    except OSError:
        return False


def _record(
    found: Segmented | Reconstructed, model: Model, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What the sidecar says, and the page too; but for the files."""
    return {**sidecars.KIND, **model.describe_case(found.scan), **facts}


def _write_all(sidecar: Path, files: Mapping[str, Write], record: Mapping[str, Any]) -> None:
    """Writes the files in their order, and after them the sidecar that says they are whole.

    What an earlier prediction has left and this one has not made would be of another model or
    other settings: it goes.
    """
    directory, before = sidecar.parent, sidecars.read(sidecar)
    sidecar.unlink(missing_ok=True)  # what it says is no longer so
    for name in set(before["files"] if before else ()) - set(files):
        (directory / Path(name).name).unlink(missing_ok=True)
    for name, write in files.items():
        write(directory / name)
    sizes = {name: (directory / name).stat().st_size for name in files}
    write_json(sidecar, {**record, "files": sizes})
