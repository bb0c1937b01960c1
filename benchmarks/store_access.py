"""Compares random reads of a store's slices with os.preadv of the same bytes.

    python benchmarks/store_access.py                   # a phantom store in a temporary folder
    python benchmarks/store_access.py --store=STORE

A store keeps the bounding box of each slice. Three readers alternate:

    kept    copies the stored pixels, images and labels, from the memory maps to a buffer
    whole   `Store.read`, which returns whole slices (518 KB for 240 x 240)
    pread   os.preadv of the same bytes into a buffer

Warm: the store is open, as in training, and its files are in the page cache. Cold: before each
turn all files are dropped from the page cache (posix_fadvise, which needs no privileges, after
fsync) and the store is opened again.

Also prints the share of the pixels that is kept, and the size and the extra time per slice that
zlib compression (level 1) would give.
"""

import argparse
import functools
import math
import os
import tempfile
import zlib
from pathlib import Path

import numpy as np

from benchmarks import measure
from benchmarks.measure import Spread
from brats_jax.data.store.layout import case_files
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store

ACCESS = measure.Record("access warm *", "access cold *", ratio=float, text=str)


class Pread:
    """Reads the slices with os.preadv, by file and offset."""

    def __init__(self, store: Store) -> None:
        self._files: dict[str, tuple[int, int]] = {}
        for patient in store.patients:
            for name in case_files(patient)[:2]:
                path = store.path / name
                with open(path, "rb") as file:
                    version = np.lib.format.read_magic(file)
                    assert version == (1, 0)
                    np.lib.format.read_array_header_1_0(file)
                    self._files[name] = os.open(path, os.O_RDONLY), file.tell()
        height, width = store.slice_shape
        self._room = memoryview(bytearray(height * width * 8))
        areas = store.box[:, 2].astype(np.int64) * store.box[:, 3]
        self._areas = areas.tolist()
        # Offset of each slice in the files of its case, in pixels.
        self._before = [
            int(areas[store.slices_of(store.patients[p]).start : index].sum())
            for index, p in enumerate(store.patient_of)
        ]
        self._names = [case_files(store.patients[p])[:2] for p in store.patient_of]

    def read(self, indices: np.ndarray) -> None:
        """Reads slices one after another into the same buffer."""
        for index in indices.tolist():
            for name, each in zip(self._names[index], (8, 1), strict=True):
                file, start = self._files[name]
                size = each * self._areas[index]
                place = start + each * self._before[index]
                assert os.preadv(file, [self._room[:size]], place) == size

    def forget(self) -> None:
        """Drops every file from the page cache."""
        for file, _ in self._files.values():
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


class Ours:
    """Reads the slices from the store's memory maps."""

    def __init__(self, store: Store) -> None:
        self.store = store
        size = math.prod(store.slice_shape)
        self._room = np.empty((size, 4), np.float16), np.empty(size, np.uint8)

    def kept(self, indices: np.ndarray) -> None:
        """Copies the stored pixels of slices one after another."""
        for index in indices.tolist():
            for room, values in zip(self._room, self.store.flat(index), strict=True):
                room[: len(values)] = values

    def whole(self, indices: np.ndarray) -> None:
        """Reads whole slices one after another."""
        for index in indices:
            self.store.read([int(index)])


def size_report(store: Store) -> str:
    """Share of the pixels that a store keeps, and the effect that compression would have."""
    whole = store.num_slices * math.prod(store.slice_shape)
    kept = sum(math.prod(box[2:]) for box in store.box.tolist()) / whole
    raw, packed, seconds = 0, 0, []
    for patient in store.patients:
        slices = store.slices_of(patient)
        middle = store.flat(slices[len(slices) // 2])[0].tobytes()
        small = zlib.compress(middle, 1)
        raw, packed = raw + len(middle), packed + len(small)
        seconds.append(measure.least_seconds(functools.partial(zlib.decompress, small)))
    areas = store.box[:, 2].astype(float) * store.box[:, 3]
    tumour = areas[store.has_tumour].mean() / math.prod(store.slice_shape)
    return (
        f"kept: {kept:.0%} of the pixels, {tumour:.0%} in slices with tumour; zlib would leave "
        f"{packed / raw:.0%} of the bytes and add {1e3 * np.median(seconds):.2f} ms per slice read"
    )


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--patients", type=int, default=8, help="phantom patients")
    parser.add_argument("--shape", default="60,240,240", help="slices,H,W of a phantom patient")
    parser.add_argument("--reads", type=int, default=200, help="slices per turn")
    parser.add_argument("--turns", type=int, default=7)
    return parser


def main() -> None:
    arguments = parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:  # TMPDIR selects the disk
        path = arguments.store or Path(folder) / "store"
        if not arguments.store:
            shape = [int(size) for size in arguments.shape.split(",")]
            prepare("phantom", path, patients=arguments.patients, seed=0, shape=shape)
        store = Store.open(path)
        pread = Pread(store)
        rng = np.random.default_rng(0)
        size = 9 * store.box[:, 2:].astype(float).prod(axis=1).mean()
        rates: dict[str, list[float]] = {}
        opened: Ours | None
        for state in ("warm", "cold"):
            for turn in range(arguments.turns + 1):
                for name in ("kept", "pread", "whole"):
                    chosen = rng.integers(0, store.num_slices, arguments.reads)
                    read = None  # releases the memory maps of the previous turn
                    if state == "cold":  # mapped pages cannot be dropped, so the store is reopened
                        opened = None
                        store = Store.open(path)
                        pread.forget()
                    opened = Ours(store)
                    if state == "warm":
                        opened.whole(chosen)
                    read = pread.read if name == "pread" else getattr(opened, name)
                    took = measure.timed(functools.partial(read, chosen))
                    opened = None
                    if turn:
                        rates.setdefault(f"{state} {name}", []).append(len(chosen) / took)
        sizes = size_report(store)
    for state in ("warm", "cold"):
        its = rates[f"{state} pread"]
        for name in ("kept", "whole"):
            mine = rates[f"{state} {name}"]
            against = measure.ratio(mine, its)
            print(
                f"{state}, {name}: {against.show(digits=2)} of pread's speed; "
                f"{Spread.of(mine).show(digits=0)} slices/s"
            )
            text = f"{against.show(digits=2)} x pread"
            ACCESS.keep(f"access {state} {name}", ratio=against.middle, text=text)
        print(
            f"  pread {Spread.of(its).show(digits=0)} slices/s, "
            f"{np.median(its) * size / 1e9:.2f} GB/s"
        )
    print(sizes)
    print(f"  {arguments.reads} slices per turn; {measure.where()}")


if __name__ == "__main__":
    main()
