"""Writes the index of a store's slices, and the positions of their tumour pixels."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from brats_jax.data import crops
from brats_jax.data.modalities import CLASS_LABELS, NO_LABELS, NUM_CLASSES
from brats_jax.data.store import layout, writer
from brats_jax.data.store.layout import CaseRecord, FileEntry, StoreSummary
from brats_jax.data.whole_volumes import missing_slices


def write_index(
    store: Path,
    records: Sequence[CaseRecord],
    kinds: Sequence[str] = (),
    names: tuple[str, str] = (layout.INDEX, layout.TUMOUR_PIXELS),
) -> tuple[dict[str, FileEntry], StoreSummary]:
    """Writes the index and the tumour pixels of cases in the given order.

    Args:
      store: the store's folder.
      records: the record of every case.
      kinds: the kind of source of each case; empty where all are files of whole volumes.
      names: the names of the two files.

    Returns:
      All files of the store but the manifest, and the summary of the pixels.
    """
    patient: list[np.ndarray] = []
    numbers: list[np.ndarray] = []
    pixels: list[np.ndarray] = []
    in_slice: list[np.ndarray] = []
    boxes: list[np.ndarray] = []
    backgrounds: list[np.ndarray] = []
    height, width = records[0].slice_shape
    dtype = np.uint16 if height * width <= 2**16 else np.uint32
    positions = [np.zeros(0, dtype)]
    for index, record in enumerate(records):
        box = np.array(record.boxes, dtype=np.int16)
        patient.append(np.full(len(box), index, dtype=np.int32))
        numbers.append(np.array(record.slice_numbers, dtype=np.int16))
        boxes.append(box)
        backgrounds.append(np.array(record.background, dtype=np.float16))
        found = np.zeros((len(box), NUM_CLASSES), np.int64)
        tumour = np.zeros(len(box), np.int64)
        if record.label_kind != NO_LABELS:
            labels = np.load(store / layout.case_files(record.patient)[1], allow_pickle=False)
            slices, (row, column), values = _tumour_pixels(labels, box)
            tumour = np.bincount(slices, minlength=len(box))
            positions.append((row * width + column).astype(dtype))
        if record.label_kind == CLASS_LABELS:
            found = np.bincount(slices * NUM_CLASSES + values, minlength=len(box) * NUM_CLASSES)
            found = found.reshape(-1, NUM_CLASSES)
            found[:, 0] = height * width - tumour
        pixels.append(found)
        in_slice.append(tumour)
    counts = np.concatenate(pixels).astype(np.int32)
    in_tumour = np.concatenate(in_slice)
    offsets = np.concatenate([[0], in_tumour.cumsum()])
    arrays = {
        "patient": np.concatenate(patient),
        "slice_number": np.concatenate(numbers),
        "pixels": counts,
        "tumour_offsets": offsets.astype(np.int64),
        "box": np.concatenate(boxes),
        "background": np.concatenate(backgrounds),
    }
    files = {
        names[1]: writer.write_array(store / names[1], np.concatenate(positions)),
        names[0]: writer.write_bytes(store / names[0], _npz(arrays)),
    }
    for record in records:
        name = layout.case_files(record.patient)[2]
        files.update(record.files)
        files[name] = FileEntry.of([(store / name).read_bytes()])
    summary = StoreSummary(
        patients=len(records),
        subjects=len({record.subject for record in records}),
        slices=len(counts),
        tumour_slices=int(np.count_nonzero(in_tumour)),
        slices_per_class=tuple((counts > 0).sum(axis=0).tolist()),
        pixels_per_class=tuple(counts.sum(axis=0, dtype=np.int64).tolist()),
        bytes=sum(entry.bytes for entry in files.values()),
        with_holes=sum(
            missing_slices(one, kind).size > 0
            for one, kind in zip(numbers, kinds or [""] * len(numbers), strict=True)
        ),
        labelled_slices=None
        if all(record.label_kind == CLASS_LABELS for record in records)
        else int(np.count_nonzero(counts.any(axis=1))),
    )
    return dict(sorted(files.items())), summary


def _tumour_pixels(
    labels: np.ndarray, boxes: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The slice, (row, column) and label of every tumour pixel, slice by slice.

    Args:
      labels: uint8[pixels], box after box.
      boxes: int16[slices, 4].
    """
    starts, wide = crops.starts(boxes), boxes.astype(np.int64)
    pixel = np.flatnonzero(labels)
    slices = np.searchsorted(starts, pixel, side="right") - 1
    row, column = np.divmod(pixel - starts[slices], wide[slices, 3])
    return slices, (row + wide[slices, 0], column + wide[slices, 1]), labels[pixel].astype(np.int64)


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of an .npz without time stamps, so that equal stores have equal checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return buffer.getvalue()
