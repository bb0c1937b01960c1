"""Writing a store: whole files only, one case at a time, the manifest last."""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data import crops
from brats_jax.data.modalities import MODALITIES, NUM_CLASSES
from brats_jax.data.normalise import normalise_crops
from brats_jax.data.scans.volumes import ORIENTATION
from brats_jax.data.sources.base import Case, Source, state_of
from brats_jax.data.store import reader as layout
from brats_jax.data.store.channel_audit import contrast_sums
from brats_jax.errors import BratsError
from brats_jax.runtime import threads
from brats_jax.runtime.files import atomic_open

_LOCK = ".lock"


class StorageError(BratsError):
    """The store cannot be written, which is no fault of the case at hand."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what a disk can refuse into one line with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"{path} cannot be written, no space is left: free some and give the same command "
                "again, or choose another --store"
            ) from None
        raise StorageError(
            f"{path} cannot be written ({error.strerror or error}): choose another --store"
        ) from None


def write_bytes(path: Path, *parts: bytes | memoryview) -> dict[str, Any]:
    """Writes a file whole or not at all; returns its size and SHA-256 for the manifest."""
    _write(path, parts)
    return _summed(parts)


def _write(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    with disk_errors(path), atomic_open(path, "wb") as file:
        for part in parts:
            file.write(part)


def _summed(parts: Sequence[bytes | memoryview]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return {"bytes": sum(map(len, parts)), "sha256": digest.hexdigest()}


def write_array(path: Path, array: np.ndarray) -> dict[str, Any]:
    """Writes a .npy file; returns its size and SHA-256."""
    return write_bytes(path, *_npy(array))


def _npy(array: np.ndarray) -> tuple[bytes, bytes | memoryview]:
    # Not np.save: on a full disk its error does not say what is wrong.
    array = np.ascontiguousarray(array)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    # A memory view of no elements cannot be cast.
    return header.getvalue(), array.data.cast("B") if array.size else b""


def write_json(path: Path, document: Any) -> dict[str, Any]:
    """Writes a json file, one line per entry of the top level; returns its size and SHA-256."""
    entries = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}"
        for key, value in document.items()
    )
    return write_bytes(path, f"{{\n{entries}\n}}\n".encode())


def write_case(store: Path, source: Source, patient: str, normalisation: str) -> dict[str, Any]:
    """Reads, normalises and writes one case, its sidecar last.

    Args:
      store: the store's folder.
      source: where the case comes from.
      patient: which one.
      normalisation: 'slice' or 'volume'.

    Returns:
      The sidecar.

    Raises:
      BratsError: the case is unfit or the disk refuses; nothing of the case is left then.
    """
    case = source.read(patient)
    _check_case(case)
    images = normalise_crops(case.images, normalisation)
    # Labels are kept wherever they are, in the head or not.
    images = images.widened(crops.boxes_of(case.labels != 0))
    labels = crops.cut(case.labels, images.boxes)
    names = layout.case_files(patient)
    try:
        data = _npy(images.pixels)
        # The images take as long to write, while the disk is waited for, as all the rest.
        parts: list[Callable[[], Any]] = [
            lambda: _write(store / names[0], data),
            lambda: _summed(data),
            lambda: write_array(store / names[1], labels),
            lambda: contrast_sums(images.boxed(), crops.split(labels, images.boxes)),
        ]
        _, of_images, of_labels, contrast = threads.parallel_map(lambda part: part(), parts)
        sidecar = {
            "patient": patient,
            "subject": case.subject or patient,
            "slice_shape": list(case.labels.shape[1:]),
            "slice_numbers": case.slice_numbers.tolist(),
            "affine": case.affine,
            "spacing_mm": case.spacing_mm,
            "orientation": ORIENTATION,
            "source_orientation": case.provenance.get("orientation", ORIENTATION),
            "provenance": dict(case.provenance),
            "notes": list(case.notes),
            "source_state": state_of(source, patient),
            "files": {names[0]: of_images, names[1]: of_labels},
            "contrast": contrast,
            "boxes": images.boxes.tolist(),
            "background": images.background.tolist(),
        }
        write_json(store / names[2], sidecar)
    except BaseException:
        discard_case(store, patient)
        raise
    return sidecar


def _check_case(case: Case) -> None:
    shape = case.labels.shape
    if case.images.shape != (*shape, len(MODALITIES)) or len(case.slice_numbers) != shape[0]:
        raise BratsError(
            f"case {case.patient}: images {case.images.shape}, labels {shape} and "
            f"{len(case.slice_numbers)} slice numbers do not fit together: fix its source"
        )
    floats = case.images.dtype.kind == "f"
    if int(case.labels.max()) >= NUM_CLASSES or (floats and not np.isfinite(case.images).all()):
        raise BratsError(
            f"case {case.patient} has labels above {NUM_CLASSES - 1} or intensities that are not "
            "finite: fix its source"
        )


def discard_case(store: Path, patient: str) -> None:
    """Removes what there is of a case, the sidecar first: without it the case counts for none."""
    for name in reversed(layout.case_files(patient)):
        (store / name).unlink(missing_ok=True)


def finished_case(store: Path, patient: str, source_state: str) -> dict[str, Any] | None:
    """The sidecar of a case written before, or None if it is not whole or its source changed."""
    try:
        sidecar = json.loads((store / layout.case_files(patient)[2]).read_text(encoding="utf-8"))
        whole = sidecar["source_state"] == source_state and all(
            (store / name).stat().st_size == entry["bytes"]
            for name, entry in sidecar["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return None
    return sidecar if whole else None


def discard_others(store: Path, patients: Iterable[str]) -> None:
    """Removes every file of a case but those of `patients`."""
    kept = {store / name for patient in patients for name in layout.case_files(patient)}
    for path in (store / layout.CASES).glob("*"):
        if path not in kept:
            path.unlink()


def write_index(store: Path, sidecars: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Writes the index and the tumour pixels of cases in the order given.

    Args:
      store: the store's folder.
      sidecars: of every case.

    Returns:
      The manifest's entries for files, and the summary of the pixels.
    """
    patient: list[np.ndarray] = []
    numbers: list[np.ndarray] = []
    pixels: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    boxes: list[np.ndarray] = []
    backgrounds: list[np.ndarray] = []
    height, width = sidecars[0]["slice_shape"]
    dtype = np.uint16 if height * width <= 2**16 else np.uint32
    for index, sidecar in enumerate(sidecars):
        labels = np.load(store / layout.case_files(sidecar["patient"])[1], allow_pickle=False)
        box = np.array(sidecar["boxes"], dtype=np.int16)
        patient.append(np.full(len(box), index, dtype=np.int32))
        numbers.append(np.array(sidecar["slice_numbers"], dtype=np.int16))
        boxes.append(box)
        backgrounds.append(np.array(sidecar["background"], dtype=np.float16))
        place, at, values = _tumour(labels, box)
        found = np.bincount(place * NUM_CLASSES + values, minlength=len(box) * NUM_CLASSES)
        found = found.reshape(-1, NUM_CLASSES)
        found[:, 0] = height * width - found[:, 1:].sum(axis=1)
        pixels.append(found)
        positions.append((at[0] * width + at[1]).astype(dtype))
    counts = np.concatenate(pixels).astype(np.int32)
    offsets = np.concatenate([[0], counts[:, 1:].sum(axis=1, dtype=np.int64).cumsum()])
    arrays = {
        "patient": np.concatenate(patient),
        "slice_number": np.concatenate(numbers),
        "pixels": counts,
        "tumour_offsets": offsets.astype(np.int64),
        "box": np.concatenate(boxes),
        "background": np.concatenate(backgrounds),
    }
    files = {
        layout.TUMOUR_PIXELS: write_array(store / layout.TUMOUR_PIXELS, np.concatenate(positions)),
        layout.INDEX: write_bytes(store / layout.INDEX, _npz(arrays)),
    }
    for sidecar in sidecars:
        name = layout.case_files(sidecar["patient"])[2]
        files.update(sidecar["files"])
        files[name] = {
            "bytes": (store / name).stat().st_size,
            "sha256": layout.sha256_of(store / name),
        }
    tumour = counts[:, 1:].any(axis=1)
    summary = {
        "patients": len(sidecars),
        "subjects": len({sidecar["subject"] for sidecar in sidecars}),
        "slices": len(counts),
        "tumour_slices": int(tumour.sum()),
        "slices_per_class": (counts > 0).sum(axis=0).tolist(),
        "pixels_per_class": counts.sum(axis=0, dtype=np.int64).tolist(),
        "bytes": sum(entry["bytes"] for entry in files.values()),
    }
    return {"files": dict(sorted(files.items())), "summary": summary}


def _tumour(
    labels: np.ndarray, boxes: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Of every tumour pixel, slice by slice: its slice, its (row, column), its label.

    Args:
      labels: uint8[pixels], box after box.
      boxes: int16[slices, 4].
    """
    starts, wide = crops.starts(boxes), boxes.astype(np.int64)
    pixel = np.flatnonzero(labels)
    place = np.searchsorted(starts, pixel, side="right") - 1
    row, column = np.divmod(pixel - starts[place], wide[place, 3])
    return place, (row + wide[place, 0], column + wide[place, 1]), labels[pixel].astype(np.int64)


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An .npz without the time of day in it, so that equal stores have equal checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return buffer.getvalue()


@contextlib.contextmanager
def sole_writer(store: Path) -> Iterator[None]:
    """Makes the store's folder and keeps every other preparation out of it meanwhile.

    A folder that is empty in the end is removed again.
    """
    with disk_errors(store):
        store.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(store / _LOCK, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        # Some network file systems have no locks; then the user has to know.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BratsError(
                    f"another preparation is writing {store}: wait for it, or choose another "
                    "--store"
                ) from None
        try:
            yield
        finally:
            (store / _LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                store.rmdir()
    finally:
        os.close(descriptor)


def remove_left_overs(store: Path) -> None:
    """Removes the temporary files of a writer that was killed."""
    for folder, pattern in ((store, ".*.json.*"), (store, ".*.np[yz].*"), (store / "cases", ".*")):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def discard(store: Path) -> None:
    """Removes everything that an unfinished preparation wrote."""
    remove_left_overs(store)
    shutil.rmtree(store / layout.CASES, ignore_errors=True)
    for name in (layout.PREPARATION, layout.INDEX, layout.TUMOUR_PIXELS):
        (store / name).unlink(missing_ok=True)
