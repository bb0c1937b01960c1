"""Writing a store: every file atomically, one case at a time, the manifest last."""

import contextlib
import errno
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data import crops
from brats_jax.data.modalities import (
    CLASS_LABELS,
    LABEL_KINDS,
    MODALITIES,
    NO_LABELS,
    NUM_CLASSES,
    WHOLE_TUMOUR,
)
from brats_jax.data.normalise import normalise_crops
from brats_jax.data.planes import AXIAL
from brats_jax.data.scans.grids import ORIENTATION
from brats_jax.data.sources.base import Case, Source, state_of
from brats_jax.data.store import layout
from brats_jax.data.store.channel_audit import contrast_sums
from brats_jax.data.store.label_checks import check_in_brain, tumour_hash
from brats_jax.data.store.layout import CaseRecord, FileEntry
from brats_jax.data.store.other_planes import in_plane
from brats_jax.data.store.tissue_audit import tissue_sums
from brats_jax.errors import BratsError
from brats_jax.runtime import failures, locks, threads
from brats_jax.runtime.document import Document, read_if_readable
from brats_jax.runtime.files import atomic_open

_HASHED_SLICES = 16  # of a case, at least


class StorageError(BratsError):
    """The store cannot be written; the current case is not at fault."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns an OSError of a write into one line with a remedy (StorageError)."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"{path} cannot be written, no space is left: free some and give the same command "
                "again, or choose another --store"
            ) from None
        remedy = failures.remedy(error) or "; choose another --store"
        raise StorageError(
            f"{path} cannot be written ({error.strerror or error}){remedy}"
        ) from None


def write_bytes(path: Path, *parts: bytes | memoryview) -> FileEntry:
    """Writes a file atomically."""
    _write(path, parts)
    return FileEntry.of(parts)


def _write(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    with disk_errors(path), atomic_open(path, "wb") as file:
        for part in parts:
            file.write(part)


def write_array(path: Path, array: np.ndarray) -> FileEntry:
    """Writes a .npy file."""
    return write_bytes(path, *_npy(array))


def _npy(array: np.ndarray) -> tuple[bytes, bytes | memoryview]:
    # Not np.save: its error on a full disk does not name the cause.
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    # A memory view of no elements cannot be cast.
    return header.getvalue(), array.data.cast("B") if array.size else b""


def write_document(path: Path, document: Document) -> FileEntry:
    """Writes a JSON file with one line per entry of the top level."""
    entries = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}"
        for key, value in document.to_json().items()
    )
    return write_bytes(path, f"{{\n{entries}\n}}\n".encode())


def write_case(
    store: Path, source: Source, patient: str, normalisation: str, plane: str = AXIAL
) -> CaseRecord:
    """Reads, normalises and writes one case; its record is written last.

    Args:
      store: the store's folder.
      source: the source of the case.
      patient: its name in the source.
      normalisation: one of `normalise.NORMALISATIONS`.
      plane: of the slices to write, one of `planes.PLANES`.

    Raises:
      BratsError: the case is unfit or the disk is full; no file of the case is left then.
    """
    case = source.read(patient)
    _check_case(case)
    case = in_plane(case, plane)
    images = normalise_crops(case.images, normalisation)
    true, labels = case.labels, np.zeros(0, np.uint8)
    if true is not None:
        # Labels outside the head are kept too.
        images = images.widened(crops.boxes_of(true != 0))
        labels = crops.cut(true, images.boxes)
        check_in_brain(case, images, labels)
    # The audits compare the classes in all modalities.
    audited = case.label_kind == CLASS_LABELS and case.present == MODALITIES
    names = layout.case_files(patient)
    try:
        data = _npy(images.pixels)
        # Writing the images takes as long, waiting for the disk, as all the rest.
        parts: list[Callable[[], Any]] = [
            lambda: _write(store / names[0], data),
            lambda: FileEntry.of(data),
            lambda: None if true is None else write_array(store / names[1], labels),
            lambda: (
                contrast_sums(images.boxed(), crops.split(labels, images.boxes))
                if audited
                else contrast_sums((), ())
            ),
            lambda: tissue_sums(images, labels) if audited else None,
            lambda: "" if true is None else tumour_hash(true),
            lambda: image_hashes(case),
        ]
        _, of_images, of_labels, contrast, tissue, tumour, hashes = threads.parallel_map(
            lambda part: part(), parts
        )
        files = {names[0]: of_images} | ({} if of_labels is None else {names[1]: of_labels})
        record = CaseRecord(
            patient=patient,
            subject=case.subject or patient,
            slice_shape=case.images.shape[1:3],
            slice_numbers=tuple(case.slice_numbers.tolist()),
            affine=None if case.affine is None else tuple(map(tuple, case.affine)),
            spacing_mm=case.spacing_mm,
            orientation=ORIENTATION,
            source_orientation=case.provenance.get("orientation", ORIENTATION),
            provenance=dict(case.provenance),
            notes=tuple(case.notes),
            source_state=state_of(source, patient),
            files=files,
            contrast=contrast,
            boxes=tuple(map(tuple, images.boxes.tolist())),
            background=tuple(map(tuple, images.background.tolist())),
            tissue=tissue,
            tumour_sha256=tumour,
            present=case.present,
            label_kind=case.label_kind,
            image_sha256=hashes,
        ).sealed()
        write_document(store / names[2], record)
    except BaseException:  # Ctrl-C, too, leaves no half of a case
        discard_case(store, patient)
        raise
    return record


def image_hashes(case: Case) -> dict[str, str]:
    """SHA-256 of some slices of each image, by modality; none of an image of zeros.

    As float32, so that a copy of one image of a case is found beside a case of several.
    """
    chosen = case.images[:: max(1, len(case.images) // _HASHED_SLICES)]
    found = {}
    for channel, name in enumerate(MODALITIES):
        image = np.ascontiguousarray(chosen[..., channel], dtype=np.float32)
        if name in case.present and image.any():
            found[name] = hashlib.sha256(image.data).hexdigest()
    return found


def _check_case(case: Case) -> None:
    shape = case.images.shape[:3] if case.labels is None else case.labels.shape
    if case.images.shape != (*shape, len(MODALITIES)) or len(case.slice_numbers) != shape[0]:
        raise BratsError(
            f"case {case.patient}: images {case.images.shape}, labels {shape} and "
            f"{len(case.slice_numbers)} slice numbers do not fit together: fix its source"
        )
    in_order = tuple(name for name in MODALITIES if name in case.present)
    if (
        case.label_kind not in LABEL_KINDS
        or (case.labels is None) != (case.label_kind == NO_LABELS)
        or not in_order
        or in_order != tuple(case.present)
    ):
        raise BratsError(
            f"case {case.patient}: {'no ' * (case.labels is None)}labels of the kind "
            f"'{case.label_kind}' and the modalities {', '.join(case.present) or 'none'} do not "
            "fit together: fix its source"
        )
    floats = case.images.dtype.kind == "f"
    most = 1 if case.label_kind == WHOLE_TUMOUR else NUM_CLASSES - 1
    too_high = case.labels is not None and int(case.labels.max()) > most
    if too_high or (floats and not np.isfinite(case.images).all()):
        raise BratsError(
            f"case {case.patient} has labels above {most} or intensities that are not "
            "finite: fix its source"
        )


def discard_case(store: Path, patient: str) -> None:
    """Removes the files of a case, the record first: a case without it counts as unwritten."""
    for name in reversed(layout.case_files(patient)):
        (store / name).unlink(missing_ok=True)


def finished_case(store: Path, patient: str, source_state: str) -> CaseRecord | None:
    """The record of a case that is written.

    None if it is incomplete, its files are not as they were written, or its source has changed.
    """
    record = read_if_readable(store / layout.case_files(patient)[2], CaseRecord)
    if record is None or record.source_state != source_state:
        return None
    try:
        whole = all(entry.is_of_file(store / name) for name, entry in record.files.items())
    except OSError:
        return None
    return record if whole else None


def discard_others(store: Path, kept: Iterable[str], patients: Iterable[str]) -> None:
    """Removes the files of all cases but `kept`; files of other programs stay.

    Args:
      store: the store's folder.
      kept: cases that are written.
      patients: those of the source, of which a killed process may have left files; cases of an
        earlier state of the source are found by their records.
    """
    records = (store / layout.CASES).glob("*.json")
    names = {path.name.removesuffix(".json") for path in records if _is_record(path)}
    for patient in {*names, *patients} - {*kept}:
        discard_case(store, patient)


def _is_record(path: Path) -> bool:
    record = read_if_readable(path, CaseRecord)
    return record is not None and f"{record.patient}.json" == path.name


@contextlib.contextmanager
def sole_writer(store: Path) -> Iterator[None]:
    """Creates the store's folder and holds its lock within the body.

    Removes the folder afterwards if it is empty.

    Raises:
      Busy: another process prepares the store.
    """
    try:
        with contextlib.ExitStack() as held:
            with disk_errors(store):
                held.enter_context(locks.hold(store / layout.LOCK, str(store)))
            try:
                yield
            finally:
                (store / layout.LOCK).unlink(missing_ok=True)
    finally:
        with contextlib.suppress(OSError):
            store.rmdir()


def remove_leftovers(store: Path) -> None:
    """Removes the temporary files of a process that was killed."""
    for folder, pattern in (
        (store, ".*.json.*"),
        (store, ".*.np[yz].*"),
        (store / "cases", ".*.json.*"),
        (store / "cases", ".*.np[yz].*"),
    ):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def discard(store: Path, patients: Iterable[str]) -> None:
    """Removes all files of an unfinished preparation of `patients`."""
    remove_leftovers(store)
    discard_others(store, (), patients)
    with contextlib.suppress(OSError):  # it holds files of other programs
        (store / layout.CASES).rmdir()
    for name in (layout.PREPARATION, layout.INDEX, layout.TUMOUR_PIXELS):
        (store / name).unlink(missing_ok=True)
