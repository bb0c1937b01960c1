"""Reading a prepared store. `layout` documents its files."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brats_jax.data import crops
from brats_jax.data.modalities import CLASS_LABELS, CLASSES, MODALITIES
from brats_jax.data.neighbours import Neighbours
from brats_jax.data.sources.joined import described, descriptions_in
from brats_jax.data.store.layout import (
    CASES,
    MANIFEST,
    PREPARATION,
    PREPARE_AGAIN,
    CaseRecord,
    Manifest,
    case_files,
    fingerprint_of,
)
from brats_jax.data.store.memory_maps import FileMaps, check_file
from brats_jax.data.whole_volumes import missing_slices
from brats_jax.errors import BratsError
from brats_jax.runtime.document import read_document
from brats_jax.runtime.files import sha256_of
from brats_jax.runtime.npz import check_array, open_npz


class Store:
    """A prepared store, memory-mapped: cheap to open, to read at random and to pickle.

    A file is compared with its checksum when it is first used; a case's record with its images.

    Attributes:
      path: its folder.
      manifest: its provenance.
      patients: the patients, in the order of the store.
      subjects: the person of each entry of `patients`. They differ for persons with several scans
        (BraTS-GLI-00006-000 and -001): split by subject, not by patient.
      label_kinds: the labels of each patient: 'classes', 'whole_tumour' or 'none'.
      labelled: bool[P], patients with labels of the classes.
      present: bool[P, 4], the modalities that each patient has, in canonical order; images of the
        others are 0.
      slice_shape: (H, W).
      num_slices: N, over all patients.
      patient_of: int32[N], index into `patients`.
      slice_number: int16[N], position of the slice in its volume.
      pixels: int32[N, 4], pixels per class; 0 for patients without labels of the classes.
      has_tumour: bool[N], by labels of the classes or of the whole tumour. A slice without any
        labels is False, but may hold tumour.
      whole: bool[P], patients with all slices of their volume, by the slice numbers.
      tumour_offsets: int64[N + 1]; slice i owns `tumour_pixels`[offsets[i]:offsets[i + 1]].
      box: int16[N, 4], (row, column, height, width) of the stored pixels of each slice.
      background: float16[N, 4], the images outside the box.
    """

    def __init__(
        self, path: str | os.PathLike[str], manifest: Manifest, fingerprint: str = ""
    ) -> None:
        """Use `Store.open`, which checks the files; `as_of` gives another fingerprint."""
        self.path = Path(path)
        self.manifest = manifest
        self._fingerprint = fingerprint
        self.patients: list[str] = list(manifest.patients)
        self.subjects: list[str] = list(manifest.subjects)
        self.label_kinds: list[str] = list(
            manifest.label_kinds or [CLASS_LABELS] * len(self.patients)
        )
        self.labelled = np.array([kind == CLASS_LABELS for kind in self.label_kinds])
        self.present = np.array(
            [[name in one for name in MODALITIES] for one in manifest.present]
            or np.ones((len(self.patients), len(MODALITIES)), bool)
        )
        height, width = manifest.slice_shape
        self.slice_shape: tuple[int, int] = (height, width)
        self._check(manifest.index)
        with open_npz(self.path / manifest.index, PREPARE_AGAIN) as index:
            arrays = {name: index[name] for name in index}
            # The patients of an earlier store are the first ones.
            count = int(np.searchsorted(arrays["patient"], len(self.patients)))
            if fingerprint:
                arrays = {
                    name: array[: count + (name == "tumour_offsets")]
                    for name, array in arrays.items()
                }
            self.patient_of = arrays["patient"]
            self.slice_number = arrays["slice_number"]
            self.pixels = arrays["pixels"]
            self.tumour_offsets = arrays["tumour_offsets"]
            self.box = arrays["box"]
            self.background = arrays["background"]
            self.num_slices = len(self.patient_of)
            _check_index(arrays, len(self.patients))
            self.has_tumour = np.diff(self.tumour_offsets) > 0
            # Global index of each patient's first slice.
            self._first = np.searchsorted(self.patient_of, np.arange(len(self.patients) + 1))
            numbers = np.split(self.slice_number, self._first[1:-1])
            kinds = [str(one.get("kind")) for one in descriptions_in(manifest.source)]
            of = manifest.source_of or [0] * len(numbers)
            self.whole = np.array(
                [
                    not missing_slices(one, kinds[source]).size
                    for one, source in zip(numbers, of, strict=True)
                ],
                bool,
            )
            starts = crops.starts(self.box)
            # First pixel of each slice in the files of its case.
            self._start = starts[:-1] - starts[self._first[self.patient_of]]
            self._neighbours = Neighbours(self.patient_of, self.slice_number)
            # A pixel's four modalities as one number, which is copied four times as fast.
            self._whole_background = np.ascontiguousarray(self.background).view(np.uint64)[:, 0]
        records = {images: record for images, _, record in map(case_files, self.patients)}
        self._maps = FileMaps(self.path, PREPARE_AGAIN, entries=manifest.files, records=records)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Store":
        """Opens a finished store after checking that every file has its full size.

        Args:
          path: the store's folder.

        Returns:
          The store, with its index in memory.

        Raises:
          BratsError: no store, an unfinished store, a store of another version, or a file that is
            missing or truncated.
        """
        return cls(path, read_manifest(Path(path)))

    def as_of(self, fingerprint: str) -> "Store":
        """This store, or what it was before sources were added to it.

        A run keeps to the patients that it was started with: the first ones of the store, whose
        slices keep their global indices.

        Args:
          fingerprint: of the store that is wanted.

        Returns:
          That store; this one if it never had this fingerprint.
        """
        manifest, earlier = self.manifest, self.manifest.earlier
        for number, before in enumerate(earlier):
            if before.fingerprint == fingerprint:
                count = len(before.subjects)
                return Store(
                    self.path,
                    dataclasses.replace(
                        manifest,
                        patients=manifest.patients[:count],
                        subjects=before.subjects,
                        label_kinds=manifest.label_kinds[:count],
                        present=manifest.present[:count],
                        source_of=manifest.source_of[:count],
                        source=described(descriptions_in(manifest.source)[: before.sources]),
                        earlier=earlier[:number],
                    ),
                    fingerprint,
                )
        return self

    @property
    def plane(self) -> str:
        """Of the slices, one of `data.planes.PLANES`."""
        return self.manifest.plane

    @property
    def tumour_pixels(self) -> np.ndarray:
        """Flat positions row * W + column of all tumour pixels; see `tumour_offsets`."""
        return self._maps[self.manifest.tumour_pixels].array

    def tumour_positions(self, numbers: np.ndarray) -> np.ndarray:
        """Flat positions row * W + column of tumour pixels by their numbers: int64[n].

        Args:
          numbers: int64[n]; slice i owns `tumour_offsets`[i] to `tumour_offsets`[i + 1] - 1.
        """
        return self.tumour_pixels[numbers].astype(np.int64)

    @property
    def fingerprint(self) -> str:
        """Hash of the store's arrays: independent of folder, time and source path."""
        return self._fingerprint or fingerprint_of(self.manifest)

    def shapes(self, indices: np.ndarray) -> np.ndarray:
        """int64[n, 2]: height and width of each slice, without what it may be filled up with."""
        return np.broadcast_to(np.array(self.slice_shape, np.int64), (len(indices), 2))

    def read(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Copies slices: (float16[n, H, W, 4], uint8[n, H, W]) for n global indices.

        Labels are classes; 0 for patients without labels of the classes.
        """
        nowhere = np.zeros(len(indices), np.int64)
        return self.windows(np.asarray(indices), nowhere, nowhere, self.slice_shape)

    def windows(
        self, indices: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Copies windows of slices.

        Args:
          indices: int[n] global indices.
          rows, columns: int[n], first row and column of each window.
          shape: (h, w) of the windows.

        Returns:
          float16[n, h, w, 4], modalities in canonical order, and uint8[n, h, w] labels, which
          are 0 for patients without labels of the classes.
        """
        images = np.empty((len(indices), *shape, len(MODALITIES)), dtype=np.float16)
        labels = np.empty((len(indices), *shape), dtype=np.uint8)
        whole = images.view(np.uint64)[..., 0]
        places = zip(indices.tolist(), rows.tolist(), columns.tolist(), strict=True)
        for k, (index, row, column) in enumerate(places):
            box, image, label = self._pixels(index)
            crops.window(whole[k], row, column, box, image, self._whole_background[index])
            crops.window(labels[k], row, column, box, label, 0)
        return images, labels

    def neighbours(self, indices: np.ndarray, context: int) -> np.ndarray:
        """int64[n, 2 context]: global indices of the slices beside each (`data.neighbours`)."""
        return self._neighbours.of(indices, context)

    def stacked(
        self, indices: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
    ) -> np.ndarray:
        """Copies the same window of m slices for each example, as channels.

        Args:
          indices: int[n, m] global indices.
          rows, columns, shape: as in `windows`.

        Returns:
          float16[n, h, w, 4 m]: slice by slice, modalities in canonical order.
        """
        count, slices = indices.shape
        images = np.empty((count, *shape, slices * len(MODALITIES)), dtype=np.float16)
        whole = images.view(np.uint64)
        for k, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
            for m, index in enumerate(indices[k].tolist()):
                box, image, _ = self._pixels(index)
                background = self._whole_background[index]
                crops.window(whole[k, ..., m], row, column, box, image, background)
        return images

    def presence(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The entry of a batch of slices on missing modalities.

        Returns:
          present: bool[n, 4], `present` of the patient of each slice. Nothing in a store whose
          patients all have all modalities, so that its batches stay as they were.
        """
        if self.present.all():
            return {}
        return {"present": self.present[self.patient_of[np.asarray(indices)]]}

    def check(self, indices: np.ndarray) -> None:
        """Compares the files of these slices with their checksums, in threads.

        Without this call each is compared when it is first used.

        Raises:
          BratsError: a file is not as it was written.
        """
        patients = np.unique(self.patient_of[indices])
        names = (name for p in patients for name in case_files(self.patients[p])[:2])
        self._maps.check(name for name in names if name in self.manifest.files)

    def flat(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The stored pixels of a slice, row by row: views float16[pixels, 4] and uint8[pixels]."""
        _, image, label = self._pixels(index)
        return image.reshape(-1, 1).view(np.float16), label.reshape(-1)

    def pixels_of_class(self, index: int, number: int) -> np.ndarray:
        """Flat positions row * W + column of a slice's pixels of a class, ascending: int64[n]."""
        row, column, height, width = self.box[index].tolist()
        begin, patient = int(self._start[index]), self.patient_of[index]
        if not self.labelled[patient]:
            return np.zeros(0, np.int64)
        mapped = self._maps[case_files(self.patients[patient])[1]]
        at = np.flatnonzero(mapped.array[begin : begin + height * width] == number)
        return (row + at // width) * self.slice_shape[1] + column + at % width

    def _pixels(self, index: int) -> tuple[list[int], np.ndarray, np.ndarray]:
        """A slice's box, and views [height, width] of its pixels (uint64) and its labels."""
        if not 0 <= index < self.num_slices:
            raise IndexError(f"slice {index} of a store of {self.num_slices}")
        box = self.box[index].tolist()
        begin = int(self._start[index])
        end = begin + box[2] * box[3]
        patient = self.patient_of[index]
        images, labels, _ = case_files(self.patients[patient])
        parts = []
        for name in (images, labels) if self.labelled[patient] else (images,):
            mapped = self._maps[name]
            mapped.prefetch(begin, end)
            parts.append(mapped.array[begin:end].reshape(box[2:]))
        if len(parts) == 1:
            parts.append(np.broadcast_to(np.uint8(0), box[2:]))
        return box, parts[0], parts[1]

    def _check(self, name: str) -> None:
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BratsError(f"{self.path / MANIFEST} does not list {name}: {PREPARE_AGAIN}")
        check_file(self.path / name, entry, PREPARE_AGAIN)

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

    def case(self, patient: str) -> CaseRecord:
        """The record of a case: affine, spacing_mm, provenance, notes."""
        self.slices_of(patient)
        name = case_files(patient)[2]
        self._check(name)
        return read_document(self.path / name, CaseRecord)


def check_finished(path: Path) -> None:
    """Refuses a folder that is no store, or an unfinished one, by its manifest (BratsError)."""
    if not (path / MANIFEST).is_file():
        if (path / PREPARATION).is_file():
            raise BratsError(
                f"the store {path} is not finished: give its prepare command again to continue it"
            )
        if (path / CASES).is_dir():
            raise BratsError(
                f"{path / MANIFEST} is missing, but there are cases of a store beside it: copy it "
                "back, or prepare the store again into another folder"
            )
        raise BratsError(
            f"there is no store at {path}: make one with "
            f"python -m brats_jax.prepare --source=DIR --store={path} "
            "(--source=phantom needs no data)"
        )


def read_manifest(path: Path) -> Manifest:
    """The manifest of a finished store, after checking that every file has its full size.

    Raises:
      BratsError: no store, an unfinished store, a store of another version, or a file that is
        missing or truncated.
    """
    check_finished(path)
    manifest = read_document(path / MANIFEST, Manifest)
    for name, entry in manifest.files.items():
        try:
            size = os.stat(path / name).st_size
        except OSError:
            raise BratsError(f"{path / name} is missing: {PREPARE_AGAIN}") from None
        if size != entry.bytes:
            raise BratsError(f"{path / name} has {size} bytes, not {entry.bytes}: {PREPARE_AGAIN}")
    return manifest


def verify(path: str | os.PathLike[str]) -> int:
    """Compares the SHA-256 of every file of a finished store with the manifest.

    Args:
      path: the store's folder.

    Returns:
      The number of files.

    Raises:
      BratsError: names the first file that differs.
    """
    path = Path(path)
    manifest = read_manifest(path)
    for name, entry in manifest.files.items():
        if sha256_of(path / name) != entry.sha256:
            raise BratsError(
                f"{path / name} has changed since it was written (its SHA-256 differs): "
                f"{PREPARE_AGAIN}"
            )
    return len(manifest.files)


def _check_index(index: Mapping[str, np.ndarray], patients: int) -> None:
    """Refuses arrays of other types or lengths (ValueError), and slices of unknown patients."""
    slices = len(index["patient"])
    for name, kinds, shape in (
        ("patient", "iu", (slices,)),
        ("slice_number", "iu", (slices,)),
        ("pixels", "iu", (slices, len(CLASSES))),
        ("tumour_offsets", "iu", (slices + 1,)),
        ("box", "iu", (slices, 4)),
        ("background", "f", (slices, len(MODALITIES))),
    ):
        check_array(name, index[name], kinds, shape)
    found = np.unique(index["patient"])
    if not np.array_equal(found, np.arange(patients)):
        raise ValueError(f"it holds {len(found)} patients, the manifest {patients}")
