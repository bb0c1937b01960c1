"""The files of a predicted case: volumes on the input's grid, pictures and a sidecar.

DIR/CASE_seg.nii.gz                labels, in the grid, axes and data type of the images
DIR/CASE_prob_{WT,TC,ET}.nii.gz    probability of each region (option)
DIR/CASE_entropy.nii.gz            entropy of the mean probabilities in nats (option)
DIR/CASE_seg.png, .html            picture and page of the case (options)
DIR/CASE_seg.json                  model, settings, files, volumes; written last
DIR/CASE_flair_synthetic.nii.gz    float32 z-scores; .json as above
DIR/CASE_flair_error.nii.gz        synthetic minus real, where there is a real one
DIR/volumes.csv                    volumes of every case in DIR, from the .json files
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

from brats_jax.data.modalities import NUM_CLASSES, REGIONS
from brats_jax.data.scans import provenance, writing
from brats_jax.errors import BratsError
from brats_jax.inference import sidecars
from brats_jax.inference.model import Model
from brats_jax.inference.results import Segmented, SyntheticModality, label_names, label_values
from brats_jax.runs.folder import PredictionFolder
from brats_jax.runs.sidecars import (
    SegmentationSidecar,
    Sidecar,
    SyntheticSidecar,
    VolumeRange,
    missing_files,
)
from brats_jax.runtime.document import read_if_readable
from brats_jax.viewer import case_view, write_overview, write_page

# The names of all files of a case, for `files.remove_stale`.
NAMES = re.compile(
    r".+_(seg|entropy|prob_(WT|TC|ET)|(t1|t1gd|t2|flair)_(synthetic|error))\.(nii\.gz|json)"
    r"|.+_seg\.(png|html)|volumes\.csv"
)

_OPTIONAL = ("probabilities", "uncertainty", "picture", "page")

Write = Callable[[Path], object]


@dataclass(frozen=True)
class OutputOptions:
    """The files to write.

    Attributes:
      et_label: value of ET, 3 or 4.
      probabilities, uncertainty: maps beside the labels.
      picture, page: pictures of the case.
      overwrite: replace earlier predictions of this program.
    """

    et_label: int = 4
    probabilities: bool = False
    uncertainty: bool = False
    picture: bool = False
    page: bool = False
    overwrite: bool = False

    @property
    def needs_probabilities(self) -> bool:
        """Whether the files need more than the labels."""
        return self.probabilities or self.uncertainty


def reason_to_skip(directory: Path, case: str, model: Model, options: OutputOptions) -> str:
    """The reason why a case needs no prediction; empty if it needs one.

    A prediction of the same model with the same settings is completed if files are missing.

    Raises:
      BratsError: a file of this name is not a prediction of this program.
    """
    names = _names(case, model, options)
    for name in names.values():
        path = directory / name
        if path.exists() and not _is_predicted(path):
            raise BratsError(
                f"{path} is there and no prediction of this program (a reader's labels?): give "
                "another --output"
            )
    before = _existing(_sidecar_path(directory, case, model), model)
    if options.overwrite or before is None or missing_files(directory, before.files):
        return ""
    differences = _differences(before, model)
    if isinstance(before, SegmentationSidecar) and str(options.et_label) not in before.labels:
        differences.append(f"with another value of ET than {options.et_label}")
    missing = sorted({option for option, name in names.items() if name not in before.files})
    if differences:
        differences += [f"without {option}" for option in missing]
        return f"kept, {' and '.join(differences)}; --overwrite replaces it"
    return "" if missing else "kept"


def with_existing(
    directory: Path, case: str, model: Model, options: OutputOptions
) -> OutputOptions:
    """The options, with those of the files that the same model has already written for a case."""
    before = _existing(_sidecar_path(directory, case, model), model)
    if before is None or _differences(before, model):
        return options
    names = _names(case, model, dataclasses.replace(options, **dict.fromkeys(_OPTIONAL, True)))
    existing = {option: True for option in _OPTIONAL if names.get(option) in before.files}
    return dataclasses.replace(options, **existing)


def write_segmentation(
    directory: Path,
    found: Segmented,
    model: Model,
    options: OutputOptions,
    truth: np.ndarray | None = None,
) -> Path:
    """Writes the files of a segmented case.

    Args:
      directory: the folder to write to.
      found: the segmentation.
      model: the model that made it.
      options: the files to write.
      truth: uint8[slices, H, W], for picture and page, or None.

    Returns:
      The path of the labels.
    """
    scan, case = found.scan, found.scan.name
    names = _names(case, model, options)
    path = directory / names["labels"]
    values = label_values(found, options.et_label)
    sidecar = SegmentationSidecar(
        **model.sidecar_fields(scan),
        labels=label_names(options.et_label),
        entropy_unit="nats",
        volumes_ml={name: VolumeRange(*volume) for name, volume in found.volumes.items()},
    )
    files: dict[str, Write] = {
        names["labels"]: _image(writing.label_image(scan, values, model.note))
    }
    if options.probabilities and found.probabilities is not None:
        for region, labels in REGIONS.items():
            p = scan.to_input(found.probabilities[..., list(labels)].sum(axis=-1), nearest=False)
            name = PredictionFolder(directory).probability(case, region).name
            files[name] = _image(writing.fraction_image(scan, p, 1.0, model.note))
    if options.uncertainty and found.entropy is not None:
        entropy = scan.to_input(found.entropy, nearest=False)
        files[names["uncertainty"]] = _image(
            writing.fraction_image(scan, entropy, math.log(NUM_CLASSES), model.note)
        )
    if options.picture or options.page:
        if not options.uncertainty:
            found = dataclasses.replace(found, entropy=None)
        view = case_view(model, found, truth, sidecar.to_json())
        if options.picture:
            files[names["picture"]] = functools.partial(write_overview, case=view)
        if options.page:
            picture = directory / names["picture"] if options.picture else None
            files[names["page"]] = functools.partial(write_page, case=view, picture=picture)
    _write_all(_sidecar_path(directory, case, model), files, sidecar, model)
    return path


def write_reconstruction(directory: Path, found: SyntheticModality, model: Model) -> Path:
    """Writes the synthetic modality, and its error where there is a real one."""
    scan, folder = found.scan, PredictionFolder(directory)
    path = folder.synthetic(scan.name, found.target)
    numbers = {path.name: found.image}
    if found.error is not None:
        numbers[folder.synthetic_error(scan.name, found.target).name] = found.error
    files = {
        name: _image(writing.number_image(scan, scan.to_input(n, nearest=False), model.note))
        for name, n in numbers.items()
    }
    sidecar = SyntheticSidecar(**model.sidecar_fields(scan), **model.describe_synthetic(found))
    _write_all(_sidecar_path(directory, scan.name, model), files, sidecar, model)
    return path


def _sidecar_path(directory: Path, case: str, model: Model) -> Path:
    folder = PredictionFolder(directory)
    if model.trained.segments:
        return folder.segmentation_json(case)
    return folder.synthetic_json(case, model.trained.target)


def _existing(path: Path, model: Model) -> SegmentationSidecar | SyntheticSidecar | None:
    """The readable sidecar at `path`, or None."""
    if model.trained.segments:
        return read_if_readable(path, SegmentationSidecar)
    return read_if_readable(path, SyntheticSidecar)


def _differences(before: Sidecar, model: Model) -> list[str]:
    return sidecars.differences(before, model.trained.describe(), model.averaged, model.cleaning)


def _names(case: str, model: Model, options: OutputOptions) -> dict[str, str]:
    """The files of a case by option, 'labels' first; of the three probability maps the last."""
    folder = PredictionFolder(Path())
    if not model.trained.segments:
        return {"labels": folder.synthetic(case, model.trained.target).name}
    paths = {
        "probabilities": folder.probability(case, list(REGIONS)[-1]),
        "uncertainty": folder.entropy(case),
        "picture": folder.picture(case),
        "page": folder.page(case),
    }
    chosen = {option: path.name for option, path in paths.items() if getattr(options, option)}
    return {"labels": folder.segmentation(case).name, **chosen}


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


def _write_all(
    path: Path,
    files: Mapping[str, Write],
    sidecar: SegmentationSidecar | SyntheticSidecar,
    model: Model,
) -> None:
    """Writes the files in order, and then the sidecar, which says that they are complete.

    Removes other files that the earlier sidecar names: they are of another model or settings.
    """
    directory, before = path.parent, _existing(path, model)
    path.unlink(missing_ok=True)  # it no longer describes the files
    for name in set(before.files if before else ()) - set(files):
        (directory / Path(name).name).unlink(missing_ok=True)
    for name, write in files.items():
        write(directory / name)
    sizes = {name: (directory / name).stat().st_size for name in files}
    dataclasses.replace(sidecar, files=sizes).write(path)
