"""The files of a store, and its JSON documents as dataclasses.

    STORE/manifest.json      provenance, and the checksum of every other file; written last
    STORE/preparation.json   the settings of an unfinished preparation
    STORE/index.npz          patient int32[N], slice_number int16[N], pixels int32[N, 4],
                             tumour_offsets int64[N + 1], box int16[N, 4], background
                             float16[N, 4]; patient by patient, slices ascending; pixels are 0 in
                             all classes where no labels of classes tell them
    STORE/tumour_pixels.npy  uint16 or uint32: flat position row * W + column of every tumour
                             pixel; slice i owns [tumour_offsets[i], tumour_offsets[i + 1])
    STORE/cases/P.images.npy float16[pixels, 4], modalities in canonical order
    STORE/cases/P.labels.npy uint8[pixels], values as in `modalities.CLASSES`, or 0 and 1 of a mask
                             of the whole tumour; missing for a case without labels
    STORE/cases/P.json       provenance of the case: affine, spacing_mm, files, notes

In a store to which sources were added the index is index_K.npz and tumour_pixels_K.npy.

Only a box (row, column, height, width) around the head is stored of every slice, slice after slice
and row by row. Outside the box the images equal `background` and the labels are 0 (see `crops`).
H runs to the patient's Left, W to Posterior, slices to Superior (LPS); in a store of another plane
as `data.planes` says, and slices are numbered from 0.
"""

import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from brats_jax.data.modalities import CLASS_LABELS, MODALITIES
from brats_jax.data.planes import AXIAL, PLANES
from brats_jax.data.store.channel_audit import ChannelAudit, ContrastSums
from brats_jax.data.store.tissue_audit import TissueSums
from brats_jax.runtime.document import Document, Part, SealedDocument

MANIFEST = "manifest.json"
PREPARATION = "preparation.json"
INDEX = "index.npz"
TUMOUR_PIXELS = "tumour_pixels.npy"
CASES = "cases"
LOCK = ".lock"

PREPARE_AGAIN = "copy it again if it was copied, or prepare the store again into another folder"

Buffer = bytes | memoryview | mmap.mmap


def fingerprint_of(manifest: "Manifest") -> str:
    """Hash of the arrays of a store: independent of folder, time and source path."""
    names = {manifest.index: INDEX, manifest.tumour_pixels: TUMOUR_PIXELS}
    arrays = sorted(
        (names.get(name, name), entry.sha256)
        for name, entry in manifest.files.items()
        if name.endswith((".npy", ".npz"))
    )
    return hashlib.sha256(json.dumps(arrays).encode()).hexdigest()[:16]


def case_files(patient: str) -> tuple[str, str, str]:
    """Paths of a case relative to the store: images, labels, record."""
    stem = f"{CASES}/{patient}"
    return f"{stem}.images.npy", f"{stem}.labels.npy", f"{stem}.json"


@dataclass(frozen=True)
class FileEntry(Part):
    """Size and checksums of a file.

    Attributes:
      bytes: its size.
      sha256: of its content.
      crc32: of its content, which is faster; None in stores of version 0.1.0.
    """

    bytes: int
    sha256: str
    crc32: int | None = None

    @classmethod
    def of(cls, parts: Sequence[Buffer]) -> Self:
        """The entry of a file whose content are `parts`."""
        size = crc32 = 0
        digest = hashlib.sha256()
        for part in parts:
            size += memoryview(part).nbytes
            crc32 = zlib.crc32(part, crc32)
            digest.update(part)
        return cls(size, digest.hexdigest(), crc32)

    def is_of(self, content: Buffer) -> bool:
        """Whether a file has this content, by its faster checksum."""
        if memoryview(content).nbytes != self.bytes:
            return False
        if self.crc32 is not None:
            return zlib.crc32(content) == self.crc32
        return hashlib.sha256(content).hexdigest() == self.sha256

    def is_of_file(self, path: Path) -> bool:
        """The same for a file.

        Raises:
          OSError: it cannot be read.
        """
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != self.bytes or not size:
                return size == self.bytes
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if hasattr(content, "madvise"):
                    content.madvise(mmap.MADV_SEQUENTIAL)
                return self.is_of(content)


@dataclass(frozen=True)
class PreparationSettings(Document):
    """preparation.json: the settings that decide the contents of a store.

    Attributes:
      source: kind and description of the source (see `sources.base.Source.description`).
      normalisation: one of `normalise.NORMALISATIONS`.
      version: of the store.
    """

    REMEDY: ClassVar[str] = PREPARE_AGAIN
    source: dict[str, Any]
    normalisation: str
    version: int
    plane: str = AXIAL


@dataclass(frozen=True)
class CaseRecord(SealedDocument):
    """cases/P.json: the provenance of one case, and the boxes of its slices.

    Attributes:
      patient: name of the case.
      subject: the person; equals `patient` for a person with one scan.
      slice_shape: (H, W).
      slice_numbers: int[slices], positions in the volume.
      affine: float[4, 4], voxel (x, y, z) to scanner mm; None if the source has none.
      spacing_mm: voxel size along x, y, z; None if the source has none.
      orientation: of the stored arrays.
      source_orientation: of the source's files.
      provenance: facts of the source.
      notes: one line each.
      source_state: changes when the source's files change (see `sources.base.state_of`).
      files: size and checksum of the arrays.
      contrast: sums for the channel audit.
      boxes: int[slices, 4], (row, column, height, width).
      background: float[slices, 4], the images outside the boxes.
      tissue: sums for the audit of this case; None in cases that version 0.1.0 has written.
      tumour_sha256: equal for equal labels; empty without tumour.
      present: the modalities that the case has; images of the others are 0.
      label_kind: see `sources.base.Case`.
      image_sha256: of each image, equal for equal ones; missing in cases of earlier versions.
    """

    REMEDY: ClassVar[str] = PREPARE_AGAIN
    patient: str
    subject: str
    slice_shape: tuple[int, ...]
    slice_numbers: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...] | None
    spacing_mm: tuple[float, ...] | None
    orientation: str
    source_orientation: str
    provenance: dict[str, Any]
    notes: tuple[str, ...]
    source_state: str
    files: dict[str, FileEntry]
    contrast: ContrastSums
    boxes: tuple[tuple[int, ...], ...]
    background: tuple[tuple[float, ...], ...]
    tissue: TissueSums | None = None
    tumour_sha256: str = ""
    present: tuple[str, ...] = MODALITIES
    label_kind: str = CLASS_LABELS
    image_sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoreSummary(Part):
    """Counts over the whole store.

    Attributes:
      patients, subjects, slices, tumour_slices: numbers of each.
      slices_per_class: slices that contain each class.
      pixels_per_class: pixels of each class.
      bytes: size of all files but the manifest.
      with_holes: patients whose volume lacks slices.
      labelled_slices: slices with labels of the classes, which alone count in `slices_per_class`
        and `pixels_per_class`; None: all.
    """

    patients: int
    subjects: int
    slices: int
    tumour_slices: int
    slices_per_class: tuple[int, ...]
    pixels_per_class: tuple[int, ...]
    bytes: int
    with_holes: int = 0
    labelled_slices: int | None = None


@dataclass(frozen=True)
class EarlierStore(Part):
    """A store before sources were added to it: its patients are the first ones of the store.

    Attributes:
      fingerprint: see `reader.Store.fingerprint`.
      subjects: the person of each of its patients.
      sources: number of its sources, the first ones of the store.
    """

    fingerprint: str
    subjects: tuple[str, ...]
    sources: int


@dataclass(frozen=True)
class Manifest(SealedDocument):
    """manifest.json: provenance and files of a finished store.

    Attributes:
      package_version: the version of this program that wrote the store.
      made: time of writing, ISO 8601.
      source, normalisation: as in `settings`.
      percentile: intensities are clipped at it.
      modalities, classes: names in the order of the arrays.
      slice_shape: (H, W).
      orientation: of the arrays.
      patients: in the order of the index.
      subjects: the person of each patient.
      audit: the channel audit.
      notices: of the source, one line each.
      notes: lines on single cases, by patient.
      skipped: reason for each patient that was left out.
      settings: of the preparation.
      files: every other file.
      summary: counts.
      contradictions: signs of exchanged labels or modalities, by patient.
      label_schemes: number of NIfTI cases by the scheme of their labels.
      read_as: the axes of images that are not read by their own headers, by patient and modality.
      label_kinds: of each patient, see `sources.base.Case`; empty where all have class labels.
      present: the modalities of each patient; empty where all have all.
      source_of: the source of each patient, by its number in `source`; empty where there is one.
      index, tumour_pixels: the names of these files, which differ in a store that has grown.
      earlier: the store before sources were added to it, each time.
      plane: of the slices, one of `data.planes.PLANES`.
    """

    SCHEMA: ClassVar[str] = "brats_jax.store"
    VERSION: ClassVar[int] = 2
    REMEDY: ClassVar[str] = "prepare the store again into another folder"
    package_version: str
    made: str
    source: dict[str, Any]
    normalisation: str
    percentile: float
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    slice_shape: tuple[int, ...]
    orientation: str
    patients: tuple[str, ...]
    subjects: tuple[str, ...]
    audit: ChannelAudit
    notices: tuple[str, ...]
    notes: dict[str, tuple[str, ...]]
    skipped: dict[str, str]
    settings: PreparationSettings
    files: dict[str, FileEntry]
    summary: StoreSummary
    contradictions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    label_schemes: dict[str, int] = field(default_factory=dict)
    read_as: dict[str, dict[str, str]] = field(default_factory=dict)
    label_kinds: tuple[str, ...] = ()
    present: tuple[tuple[str, ...], ...] = ()
    source_of: tuple[int, ...] = ()
    index: str = INDEX
    tumour_pixels: str = TUMOUR_PIXELS
    earlier: tuple[EarlierStore, ...] = ()
    plane: str = AXIAL

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the manifest.

        Raises:
          ValueError: another version, other modalities, or a missing field.
        """
        manifest = super().from_json(document)
        if manifest.modalities != MODALITIES:
            raise ValueError(
                f"the modalities are {', '.join(manifest.modalities)}, not {', '.join(MODALITIES)}"
            )
        for name in ("label_kinds", "present", "source_of"):
            if len(getattr(manifest, name)) not in (0, len(manifest.patients)):
                raise ValueError(f"'{name}' is not of {len(manifest.patients)} patients")
        if manifest.plane not in PLANES:
            raise ValueError(f"'plane' is {manifest.plane!r}, not {', '.join(PLANES)}")
        return manifest
