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

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data.modalities import NUM_CLASSES, REGIONS
from brats_jax.data.scans import writing
from brats_jax.errors import BratsError
from brats_jax.inference.earlier_outputs import changed_file, earlier_sidecar, own_files
from brats_jax.inference.model import Model
from brats_jax.inference.output_names import OutputOptions, names_by_option, sidecar_path
from brats_jax.inference.results import Segmented, SyntheticModality, label_names, label_values
from brats_jax.runs.folder import PredictionFolder
from brats_jax.runs.sidecars import (
    SegmentationSidecar,
    SyntheticSidecar,
    VolumeRange,
)
from brats_jax.runtime import threads
from brats_jax.runtime.files import atomic_group, json_text
from brats_jax.runtime.text import without_folders
from brats_jax.viewer.case import CaseView, case_view

_DRAWING = "brats_jax.viewer.page"

Make = Callable[[], bytes]
Uncut = Callable[[], contextlib.AbstractContextManager[None]]


def write_segmentation(
    directory: Path,
    found: Segmented,
    model: Model,
    options: OutputOptions,
    truth: np.ndarray | None = None,
    uncut: Uncut = contextlib.nullcontext,
    truth_notes: Sequence[str] = (),
) -> Path:
    """Writes the files of a segmented case.

    Args:
      directory: the folder to write to.
      found: the segmentation.
      model: the model that made it.
      options: the files to write.
      truth: uint8[slices, H, W], for picture and page, or None.
      uncut: makes a context that is entered while the finished files are put into the folder, and
        in which the process must not end.
      truth_notes: notes on the truth, for picture and page.

    Returns:
      The path of the labels.
    """
    scan, case = found.scan, found.scan.name
    names = names_by_option(case, model, options)
    path = directory / names["labels"]
    values = label_values(found, options.et_label)
    sidecar = SegmentationSidecar(
        **model.sidecar_fields(scan),
        labels=label_names(options.et_label),
        entropy_unit="nats",
        volumes_ml={name: VolumeRange(*volume) for name, volume in found.volumes.items()},
    )
    files: dict[str, Make] = {
        names["labels"]: _image(writing.label_image(scan, values, model.header_note(scan)))
    }
    if options.probabilities and found.probabilities is not None:
        for region, labels in REGIONS.items():
            p = scan.to_input(found.probabilities[..., list(labels)].sum(axis=-1), nearest=False)
            name = PredictionFolder(directory).probability(case, region).name
            files[name] = _image(writing.fraction_image(scan, p, 1.0, model.header_note(scan)))
    if options.uncertainty and found.entropy is not None:
        entropy = scan.to_input(found.entropy, nearest=False)
        files[names["uncertainty"]] = _image(
            writing.fraction_image(scan, entropy, math.log(NUM_CLASSES), model.header_note(scan))
        )
    if options.picture or options.page:
        if not options.uncertainty:
            found = dataclasses.replace(found, entropy=None)
        view = case_view(model, found, truth, sidecar.to_json())
        on_truth = [without_folders(note) for note in truth_notes]
        view = dataclasses.replace(view, notes=(*view.notes, *on_truth))
        files |= _pictures(view, names)
    _write_all(sidecar_path(directory, case, model), files, sidecar, model, uncut)
    return path


@functools.cache
def import_drawing() -> None:
    """Imports the modules that draw, in the background: Matplotlib takes half a second."""
    threading.Thread(target=importlib.import_module, args=(_DRAWING,), daemon=True).start()


def _pictures(view: CaseView, names: Mapping[str, str]) -> dict[str, Make]:
    """The functions that make the files in `names`; the picture is drawn once for both."""
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


def write_reconstruction(
    directory: Path,
    found: Sequence[SyntheticModality],
    model: Model,
    uncut: Uncut = contextlib.nullcontext,
) -> Path:
    """Writes the synthetic modalities of a case, and their errors where there is a real one.

    Arguments as in `write_segmentation`.

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
        name: _image(
            writing.number_image(scan, scan.to_input(n, nearest=False), model.header_note(scan))
        )
        for name, n in numbers.items()
    }
    sidecar = SyntheticSidecar(**model.sidecar_fields(scan), **model.describe_synthetic(found))
    _write_all(sidecar_path(directory, scan.name, model), files, sidecar, model, uncut)
    return path


def _image(image: Any) -> Make:
    return functools.partial(writing.compressed, image)


def _write_all(
    path: Path,
    files: Mapping[str, Make],
    sidecar: SegmentationSidecar | SyntheticSidecar,
    model: Model,
    uncut: Uncut,
) -> None:
    """Writes the files and the sidecar, all or none; an existing sidecar means complete files.

    Removes the files of the earlier sidecar that are not written again: they are of another model
    or of other settings.

    Args:
      path: of the sidecar.
      files: by name, the functions that make the content.
      sidecar: the description, which gets the sizes and hashes of the files.
      model: the model that made them.
      uncut: as in `write_segmentation`.

    Raises:
      BratsError: a file has changed since `reason_to_skip` looked at it.
    """
    directory, before = path.parent, earlier_sidecar(path, model)
    made = threads.parallel_map(lambda make: make(), files.values())
    contents = dict(zip(files, made, strict=True))
    changed = changed_file(
        directory, sidecar.case, model, [*files, *(before.files if before else ())]
    )
    if changed:
        raise BratsError(f"{directory / changed}: kept")
    sizes = {name: len(data) for name, data in contents.items()}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    document = dataclasses.replace(sidecar, files=sizes, sha256=hashes).sealed().to_json()
    with uncut():
        own = own_files(directory, sidecar.case, model)
        own.begin(contents)
        try:
            # An error leaves the old files. A kill leaves no sidecar that describes other files.
            with atomic_group(path) as open_file:
                for name, data in contents.items():
                    open_file(directory / name).write(data)
                open_file(path).write(json_text(document).encode())
        except BaseException:
            # Ctrl-C, too: the hashes of files that were not written must not stay.
            if path.exists() or not any((directory / name).exists() for name in contents):
                own.discard_ledger()
            raise
        own.remove(name for name in (before.files if before else ()) if name not in contents)
        own.discard_ledger()
