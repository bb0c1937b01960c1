"""The prepared store: what it is on disk, and how it is read.

    STORE/manifest.json      how it was made and the checksum of every other file; written last
    STORE/index.npz          patient int32[N], slice_number int16[N], pixels int32[N, 4],
                             tumour_offsets int64[N + 1], box int16[N, 4], background
                             float16[N, 4]; patient by patient, slices ascending
    STORE/tumour_pixels.npy  uint16 or uint32: flat position row * W + column of every tumour
                             pixel; slice i owns [tumour_offsets[i], tumour_offsets[i + 1])
    STORE/cases/P.images.npy float16[pixels, 4], modalities in canonical order
    STORE/cases/P.labels.npy uint8[pixels], values as in `modalities.CLASSES`
    STORE/cases/P.json       where the case came from: affine, spacing_mm, files, notes

Of every slice only the box (row, column, height, width) of the head is kept, slice after slice
and row by row; beside it the images are `background` and the labels 0 (see `crops`). H runs to
the patient's Left, W to Posterior, slices to Superior (LPS).
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.data import crops, modalities
from brats_jax.data.store.memory_maps import FileMaps
from brats_jax.errors import BratsError
from brats_jax.runtime.files import UNREADABLE_NPZ

SCHEMA = "brats_jax.store"
VERSION = 2
MANIFEST = "manifest.json"
PREPARATION = "preparation.json"  # what an unfinished preparation was asked to do
INDEX = "index.npz"
TUMOUR_PIXELS = "tumour_pixels.npy"
CASES = "cases"


def case_files(patient: str) -> tuple[str, str, str]:
    """Paths of a case below the store: images, labels, sidecar."""
    stem = f"{CASES}/{patient}"
    return f"{stem}.images.npy", f"{stem}.labels.npy", f"{stem}.json"


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Reads a json object; raises BratsError, ending in `remedy`, if it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BratsError(f"{path} cannot be read ({error.strerror}): {remedy}") from None
    except ValueError as error:
        raise BratsError(f"{path} is not valid JSON ({error}): {remedy}") from None
    if not isinstance(value, dict):
        raise BratsError(f"{path} is not a JSON object: {remedy}")
    return value


class Store:
    """A prepared store, memory-mapped: cheap to open, to read at random and to pickle.

    Attributes:
      path: where it lies.
      manifest: how it was made.
      patients: the patients, in the order of the store.
      subjects: the person behind each entry of `patients`. They differ where one person was
        scanned more than once (BraTS-GLI-00006-000 and -001): split by subject, not by patient.
      slice_shape: (H, W).
      num_slices: N, over all patients.
      patient_of: int32[N], index into `patients`.
      slice_number: int16[N], position of the slice in its volume.
      pixels: int32[N, 4], pixels per class.
      has_tumour: bool[N].
      tumour_offsets: int64[N + 1], where each slice's part of `tumour_pixels` begins and ends.
      box: int16[N, 4], (row, column, height, width) of the pixels kept of each slice.
      background: float16[N, 4], the images beside them.
    """

    def __init__(self, path: str | os.PathLike[str], manifest: dict[str, Any]) -> None:
        """Use `Store.open`, which checks what it finds."""
        self.path = Path(path)
        self.manifest = manifest
        self.patients: list[str] = list(manifest["patients"])
        self.subjects: list[str] = list(manifest["subjects"])
        self.slice_shape: tuple[int, int] = (
            int(manifest["slice_shape"][0]),
            int(manifest["slice_shape"][1]),
        )
        with np.load(self.path / INDEX, allow_pickle=False) as index:
            self.patient_of: np.ndarray = index["patient"]
            self.slice_number: np.ndarray = index["slice_number"]
            self.pixels: np.ndarray = index["pixels"]
            self.tumour_offsets: np.ndarray = index["tumour_offsets"]
            self.box: np.ndarray = index["box"]
            self.background: np.ndarray = index["background"]
        self.num_slices = len(self.patient_of)
        self.has_tumour: np.ndarray = self.pixels[:, 1:].any(axis=1)
        # Global index of each patient's first slice.
        self._first = np.searchsorted(self.patient_of, np.arange(len(self.patients) + 1))
        starts = crops.starts(self.box)
        # Where the pixels of each slice begin in the files of its case.
        self._start = starts[:-1] - starts[self._first[self.patient_of]]
        # A pixel's four modalities as one number, which is copied as fast as one of them.
        self._whole_background = np.ascontiguousarray(self.background).view(np.uint64)[:, 0]
        self._maps = FileMaps(self.path, "delete the store and prepare it again")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Store":
        """Opens a finished store after checking that every file is there at its full size.

        Args:
          path: the store's folder.

        Returns:
          The store, nothing read yet but its index.

        Raises:
          BratsError: no store, an unfinished one, one of another version, or a file that is
            missing or short.
        """
        path = Path(path)
        manifest = read_whole_manifest(path)
        try:
            store = cls(path, manifest)
        except UNREADABLE_NPZ as error:
            raise BratsError(
                f"the index of the store {path} cannot be read ({error}): "
                "delete the store and prepare it again"
            ) from None
        return store

    @property
    def tumour_pixels(self) -> np.ndarray:
        """Flat positions row * W + column of all tumour pixels, by slice (see `tumour_offsets`)."""
        return self._maps[TUMOUR_PIXELS].array

    @property
    def fingerprint(self) -> str:
        """Short name of the store's contents: equal stores, equal fingerprints, wherever they lie.

        Only the arrays count, not when or from which folder they were made.
        """
        arrays = sorted(
            (name, entry["sha256"])
            for name, entry in self.manifest["files"].items()
            if name.endswith((".npy", ".npz"))
        )
        return hashlib.sha256(json.dumps(arrays).encode()).hexdigest()[:16]

    def read(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Copies slices: (float16[n, H, W, 4], uint8[n, H, W]) for n global indices."""
        nowhere = np.zeros(len(indices), np.int64)
        return self.windows(np.asarray(indices), nowhere, nowhere, self.slice_shape)

    def windows(
        self, indices: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Copies windows of slices.

        Args:
          indices: int[n] global indices.
          rows, columns: int[n], where each window begins in its slice.
          shape: (h, w) of the windows.

        Returns:
          float16[n, h, w, 4], modalities in canonical order, and uint8[n, h, w] labels.
        """
        images = np.empty((len(indices), *shape, len(modalities.MODALITIES)), dtype=np.float16)
        labels = np.empty((len(indices), *shape), dtype=np.uint8)
        whole = images.view(np.uint64)[..., 0]
        places = zip(indices.tolist(), rows.tolist(), columns.tolist(), strict=True)
        for k, (index, row, column) in enumerate(places):
            box, image, label = self._pixels(index)
            crops.window(whole[k], row, column, box, image, self._whole_background[index])
            crops.window(labels[k], row, column, box, label, 0)
        return images, labels

    def flat(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The kept pixels of a slice, row by row: views float16[pixels, 4] and uint8[pixels]."""
        _, image, label = self._pixels(index)
        return image.reshape(-1, 1).view(np.float16), label.reshape(-1)

    def _pixels(self, index: int) -> tuple[list[int], np.ndarray, np.ndarray]:
        """A slice's box, and views [height, width] of its pixels (uint64) and its labels."""
        if not 0 <= index < self.num_slices:
            raise IndexError(f"slice {index} of a store of {self.num_slices}")
        box = self.box[index].tolist()
        begin = int(self._start[index])
        end = begin + box[2] * box[3]
        parts = []
        for name in case_files(self.patients[self.patient_of[index]])[:2]:
            mapped = self._maps[name]
            mapped.soon(begin, end)
            parts.append(mapped.array[begin:end].reshape(box[2:]))
        return box, parts[0], parts[1]

    def slices_of(self, patient: str) -> range:
        """Global indices of a patient's slices."""
        try:
            position = self.patients.index(patient)
        except ValueError:
            raise BratsError(
                f"the store {self.path} has no patient '{patient}': "
                f"it holds {len(self.patients)}, from {self.patients[0]} to {self.patients[-1]}"
            ) from None
        return range(int(self._first[position]), int(self._first[position + 1]))

    def case(self, patient: str) -> dict[str, Any]:
        """What is known of a case: affine, spacing_mm, provenance, notes (see the sidecar)."""
        self.slices_of(patient)
        return read_json(self.path / case_files(patient)[2], "delete the store and prepare again")


def read_whole_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a finished store, every file of which is there at its full size."""
    if not (path / MANIFEST).is_file():
        if (path / PREPARATION).is_file():
            raise BratsError(
                f"the store {path} is not finished: give its prepare command again, "
                "it goes on where it stopped"
            )
        raise BratsError(
            f"there is no store at {path}: make one with "
            f"python -m brats_jax.prepare --source=... --store={path}"
        )
    manifest = read_manifest(path)
    check_files(path, manifest)
    return manifest


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads a manifest and checks that it is one that this version can read."""
    manifest = read_json(path / MANIFEST, "delete the store and prepare it again")
    if manifest.get("schema") != SCHEMA:
        raise BratsError(
            f"{path / MANIFEST} does not belong to a store (schema {manifest.get('schema')!r}): "
            "check the path"
        )
    if manifest.get("version") != VERSION:
        raise BratsError(
            f"the store {path} has version {manifest.get('version')}, this program reads version "
            f"{VERSION}: prepare it again into another folder"
        )
    if tuple(manifest.get("modalities", ())) != modalities.MODALITIES:
        raise BratsError(
            f"the store {path} holds the modalities {manifest.get('modalities')}, not "
            f"{list(modalities.MODALITIES)}: prepare it again into another folder"
        )
    lacking = [
        name for name in ("files", "settings", "patients", "subjects") if name not in manifest
    ]
    if lacking:
        raise BratsError(
            f"{path / MANIFEST} lacks {', '.join(lacking)}: delete the store and prepare it again"
        )
    return manifest


def check_files(path: Path, manifest: dict[str, Any]) -> None:
    """Raises BratsError if a file that the manifest names is missing or has another size."""
    for name, entry in manifest["files"].items():
        try:
            size = os.stat(path / name).st_size
        except OSError:
            raise BratsError(
                f"{path / name} is missing: delete the store and prepare it again"
            ) from None
        if size != entry["bytes"]:
            raise BratsError(
                f"{path / name} has {size} bytes, not {entry['bytes']}: "
                "delete the store and prepare it again"
            )


def verify(path: str | os.PathLike[str]) -> int:
    """Reads every file of a finished store and compares its SHA-256 with the manifest.

    Args:
      path: the store's folder.

    Returns:
      The number of files.

    Raises:
      BratsError: naming the first file that differs.
    """
    path = Path(path)
    manifest = read_whole_manifest(path)
    for name, entry in manifest["files"].items():
        if sha256_of(path / name) != entry["sha256"]:
            raise BratsError(
                f"{path / name} has changed since it was written (its SHA-256 differs): "
                "delete the store and prepare it again"
            )
    return len(manifest["files"])
