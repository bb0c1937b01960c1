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
import hashlib
import importlib
import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import NUM_CLASSES, REGIONS
from brats_jax.data.scans import provenance, writing
from brats_jax.errors import BratsError
from brats_jax.inference import sidecars
from brats_jax.inference.missing import Given
from brats_jax.inference.model import Model
from brats_jax.inference.results import Segmented, SyntheticModality, label_names, label_values
from brats_jax.runs.folder import PredictionFolder
from brats_jax.runs.sidecars import (
    LATER_S,
    SegmentationSidecar,
    Sidecar,
    SyntheticSidecar,
    VolumeRange,
    missing_files,
)
from brats_jax.runtime import threads
from brats_jax.runtime.document import read_if_readable
from brats_jax.runtime.files import atomic_group, json_text, refuse_link
from brats_jax.runtime.own_files import OwnFiles
from brats_jax.runtime.whole_files import is_whole
from brats_jax.viewer.case import CaseView, case_view

# The names of all files of a case, for `files.remove_stale`.
NAMES = re.compile(
    r".+_(seg|entropy|prob_(WT|TC|ET)|(t1|t1gd|t2|flair)_(synthetic|error))\.(nii\.gz|json)"
    r"|.+_seg\.(png|html)|volumes\.csv"
)

_OPTIONAL = ("probabilities", "uncertainty", "picture", "page")

_DRAWING = "brats_jax.viewer.page"

Make = Callable[[], bytes]


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


def reason_to_skip(
    directory: Path,
    case: str,
    model: Model,
    options: OutputOptions,
    lacks: Given = Given(),  # noqa: B008, immutable
) -> str:
    """The reason why a case needs no prediction; empty if it needs one.

    A prediction of the same model with the same settings is completed if files are missing. A
    prediction that was edited since is kept. `lacks` is what the case lacks now.

    Raises:
      BratsError: a file of this name is not a prediction of this program, or has changed since it
        was written and `overwrite` asks to replace it.
    """
    names = _names(case, model, options)
    sidecar = _sidecar_path(directory, case, model)
    # A damaged description of this program has its labels beside it, which are looked at below.
    if (
        sidecar.exists()
        and not sidecars.is_ours(sidecar)
        and not (directory / names["labels"]).exists()
    ):
        raise BratsError(
            f"{sidecar} is there and was not written by this program, which writes its description "
            "there: move it away, or give another --output"
        )
    refuse_link(sidecar, "move it away, or give another --output")
    before = _existing(sidecar, model)
    edited = _changed(
        directory,
        case,
        model,
        [*names.values(), *(before.files if before else ())],
        to_replace=options.overwrite,
    )
    if edited and options.overwrite:
        move = "it is never replaced; move it away"
        if before is None:  # one file after the other would be named
            move = "nothing of this case is replaced; move its files away"
        raise BratsError(f"{directory / edited}: {move}, or give another --output")
    if edited:
        return f"kept, {edited}"
    if before is not None and not missing_files(directory, before.files):
        _own_files(directory, case, model).discard_ledger()  # of a command that was killed
    if options.overwrite or before is None or missing_files(directory, before.files):
        return ""
    own = _own_files(directory, case, model)
    if not all(own.is_as_written(name) for name in before.files):  # a damaged copy of equal size
        return ""
    differences = _differences(before, model, lacks)
    if isinstance(before, SegmentationSidecar) and str(options.et_label) not in before.labels:
        differences.append(f"with another value of ET than {options.et_label}")
    missing = sorted({option for option, name in names.items() if name not in before.files})
    if differences:
        differences += [f"without {option}" for option in missing]
        return f"kept, {' and '.join(differences)}; --overwrite replaces it"
    return "" if missing else "kept"


def with_existing(
    directory: Path, case: str, model: Model, options: OutputOptions, lacks: Given
) -> OutputOptions:
    """The options, with those of the files that the same model has already written for a case."""
    before = _existing(_sidecar_path(directory, case, model), model)
    if before is None or _differences(before, model, lacks):
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
    files: dict[str, Make] = {
        names["labels"]: _image(writing.label_image(scan, values, model.note(scan)))
    }
    if options.probabilities and found.probabilities is not None:
        for region, labels in REGIONS.items():
            p = scan.to_input(found.probabilities[..., list(labels)].sum(axis=-1), nearest=False)
            name = PredictionFolder(directory).probability(case, region).name
            files[name] = _image(writing.fraction_image(scan, p, 1.0, model.note(scan)))
    if options.uncertainty and found.entropy is not None:
        entropy = scan.to_input(found.entropy, nearest=False)
        files[names["uncertainty"]] = _image(
            writing.fraction_image(scan, entropy, math.log(NUM_CLASSES), model.note(scan))
        )
    if options.picture or options.page:
        if not options.uncertainty:
            found = dataclasses.replace(found, entropy=None)
        view = case_view(model, found, truth, sidecar.to_json())
        files |= _pictures(view, names)
    _write_all(_sidecar_path(directory, case, model), files, sidecar, model)
    return path


@functools.cache
def import_drawing() -> None:
    """Imports what draws pictures and pages, in the background: Matplotlib takes half a second."""
    threading.Thread(target=importlib.import_module, args=(_DRAWING,), daemon=True).start()


def _pictures(view: CaseView, names: Mapping[str, str]) -> dict[str, Make]:
    """What makes picture and page of a case, where `names` has them; drawn once for both."""
    from brats_jax.viewer.overview import draw_overview
    from brats_jax.viewer.page import page_of
    from brats_jax.viewer.slices import png

    lock, made = threading.Lock(), list[bytes]()

    def drawn() -> bytes:
        with lock:
            if not made:
                made.append(png(draw_overview(view)))
        return made[0]

    def page() -> bytes:
        return page_of(view, drawn).encode("utf-8", "backslashreplace")

    makes = {"picture": drawn, "page": page}
    return {names[option]: make for option, make in makes.items() if option in names}


def write_reconstruction(directory: Path, found: Sequence[SyntheticModality], model: Model) -> Path:
    """Writes the synthetic modalities of a case, and their errors where there is a real one.

    Returns:
      The path of the first one.
    """
    scan, folder = found[0].scan, PredictionFolder(directory)
    path = folder.synthetic(scan.name, found[0].target)
    numbers = {}
    for one in found:
        numbers[folder.synthetic(scan.name, one.target).name] = one.image
        if one.error is not None:
            numbers[folder.synthetic_error(scan.name, one.target).name] = one.error
    files = {
        name: _image(writing.number_image(scan, scan.to_input(n, nearest=False), model.note(scan)))
        for name, n in numbers.items()
    }
    sidecar = SyntheticSidecar(**model.sidecar_fields(scan), **model.describe_synthetic(found))
    _write_all(_sidecar_path(directory, scan.name, model), files, sidecar, model)
    return path


def _sidecar_path(directory: Path, case: str, model: Model) -> Path:
    folder = PredictionFolder(directory)
    if model.trained.segments:
        return folder.segmentation_json(case)
    return folder.synthetic_json(case, model.trained.targets[0])


def _existing(path: Path, model: Model) -> SegmentationSidecar | SyntheticSidecar | None:
    """The readable sidecar at `path`, or None."""
    if model.trained.segments:
        return read_if_readable(path, SegmentationSidecar)
    return read_if_readable(path, SyntheticSidecar)


def _differences(before: Sidecar, model: Model, lacks: Given) -> list[str]:
    return sidecars.differences(
        before, model.trained.describe(), model.averaged, model.cleaning, **model.lacking(lacks)
    )


def _names(case: str, model: Model, options: OutputOptions) -> dict[str, str]:
    """The files of a case by option, 'labels' first; of the three probability maps the last."""
    folder = PredictionFolder(Path())
    if not model.trained.segments:
        return {"labels": folder.synthetic(case, model.trained.targets[0]).name}
    paths = {
        "probabilities": folder.probability(case, list(REGIONS)[-1]),
        "uncertainty": folder.entropy(case),
        "picture": folder.picture(case),
        "page": folder.page(case),
    }
    chosen = {option: path.name for option, path in paths.items() if getattr(options, option)}
    return {"labels": folder.segmentation(case).name, **chosen}


def _image(image: Any) -> Make:
    return functools.partial(writing.compressed, image)


def _changed(
    directory: Path, case: str, model: Model, names: Iterable[str], *, to_replace: bool = True
) -> str:
    """The first file of a case that somebody may have changed since it was written, in words.

    A link to a file as it was written counts as changed only if it is `to_replace`.

    Raises:
      BratsError: a file that this program did not write.
    """
    own = _own_files(directory, case, model)
    for name in dict.fromkeys(names):
        path = directory / Path(name).name
        if not path.exists():  # a link to nothing
            refuse_link(path, "move it away, or give another --output")
        if own.may_replace(path.name) or not (to_replace or not own.is_as_written(path.name)):
            continue
        if path.is_symlink() and own.is_as_written(path.name):
            return f"{path.name} is a link, which this program did not write"
        if not _is_predicted(path) and not own.knows(path.name):
            raise BratsError(
                f"{path} is there and no prediction of this program (a reader's labels?): give "
                "another --output"
            )
        # A copy that was cut short is no edit; nobody can use it.
        if is_whole(path) and own.knows(path.name):
            return f"{path.name} has changed since this program wrote it"
        sidecar = _sidecar_path(directory, case, model)
        if is_whole(path) and sidecar.exists():
            return (
                f"{sidecar.name} has changed since this program wrote it, so that an edit of "
                f"{path.name} could not be found"
            )
        if is_whole(path):
            return f"{path.name} is there without the description that was written with it"
    return ""


def _own_files(directory: Path, case: str, model: Model) -> OwnFiles:
    """The files of a case that this program has written."""
    sidecar = _sidecar_path(directory, case, model)
    before = _existing(sidecar, model)
    own = OwnFiles(
        directory,
        PredictionFolder(directory).ledger_json(sidecar),
        before.sha256 if before else {},
    )
    if before is not None and not before.sha256:  # a sidecar of version 0.1.0 has sizes alone
        written = sidecar.stat().st_mtime + LATER_S
        for name, size in before.files.items():
            whole = not missing_files(directory, {name: size})
            own.adopt(name, unchanged=whole and (directory / name).stat().st_mtime <= written)
    return own


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
    files: Mapping[str, Make],
    sidecar: SegmentationSidecar | SyntheticSidecar,
    model: Model,
) -> None:
    """Writes the files and the sidecar, which says that they are complete, all or none.

    Removes other files that the earlier sidecar names: they are of another model or settings.

    Raises:
      BratsError: a file has changed since `reason_to_skip` looked at it.
    """
    directory, before = path.parent, _existing(path, model)
    made = threads.parallel_map(lambda make: make(), files.values())
    contents = dict(zip(files, made, strict=True))
    changed = _changed(directory, sidecar.case, model, [*files, *(before.files if before else ())])
    if changed:
        raise BratsError(f"{directory / changed}: kept")
    sizes = {name: len(data) for name, data in contents.items()}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    document = dataclasses.replace(sidecar, files=sizes, sha256=hashes).sealed().to_json()
    own = _own_files(directory, sidecar.case, model)
    own.begin(contents)
    try:
        # An error leaves the old files. A kill leaves no sidecar that describes other files.
        with atomic_group(path) as open_file:
            for name, data in contents.items():
                open_file(directory / name).write(data)
            open_file(path).write(json_text(document).encode())
    except BaseException:  # Ctrl-C, too: the hashes of files that were not written must not stay
        if path.exists() or not any((directory / name).exists() for name in contents):
            own.discard_ledger()
        raise
    own.remove(name for name in (before.files if before else ()) if name not in contents)
    own.discard_ledger()
