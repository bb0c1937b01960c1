"""Slices of a store read at random beside the disk's own speed for the same bytes, by turns.

    python benchmarks/store_access.py                   # a phantom store in a temporary folder
    python benchmarks/store_access.py --store=STORE

Ours: the pixels that are kept of one slice after the other, images and labels, copied out of the
store's maps into one buffer; and `Store.read`, which puts them back into whole new slices (518 KB
of 240 x 240). The disk's own: os.pread of the same bytes into one buffer. Warm: the store is open,
as while training, and all of it in the page cache. Cold: every file is put out of it before each
turn (posix_fadvise, which needs no rights; a file just written has to be synced first) and the
store opened anew.

Beside it, what is kept of whole slices, and what would be if every slice were compressed too (zlib,
level 1), with the time to give one back.
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
    """The same slices by file and offset."""

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
        # Where its case's files have each slice.
        self._before = [
            int(areas[store.slices_of(store.patients[p]).start : index].sum())
            for index, p in enumerate(store.patient_of)
        ]
        self._names = [case_files(store.patients[p])[:2] for p in store.patient_of]

    def read(self, indices: np.ndarray) -> None:
        """Into one buffer, again and again."""
        for index in indices.tolist():
            for name, each in zip(self._names[index], (8, 1), strict=True):
                file, start = self._files[name]
                size = each * self._areas[index]
                place = start + each * self._before[index]
                assert os.preadv(file, [self._room[:size]], place) == size

    def forget(self) -> None:
        """Puts every file out of the page cache."""
        for file, _ in self._files.values():
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


class Ours:
    """The same out of the store's maps."""

    def __init__(self, store: Store) -> None:
        self.store = store
        size = math.prod(store.slice_shape)
        self._room = np.empty((size, 4), np.float16), np.empty(size, np.uint8)

    def kept(self, indices: np.ndarray) -> None:
        """What is kept, one slice after the other."""
        for index in indices.tolist():
            for room, values in zip(self._room, self.store.flat(index), strict=True):
                room[: len(values)] = values

    def whole(self, indices: np.ndarray) -> None:
        """Whole slices, one after the other."""
        for index in indices:
            self.store.read([int(index)])


def smaller(store: Store) -> str:
    """What cropping leaves of the slices, and what compressing would leave of that."""
    whole = store.num_slices * math.prod(store.slice_shape)
    kept = sum(math.prod(box[2:]) for box in store.box.tolist()) / whole
    raw, packed, seconds = 0, 0, []
    for patient in store.patients:
        slices = store.slices_of(patient)
        middle = store.flat(slices[len(slices) // 2])[0].tobytes()
        small = zlib.compress(middle, 1)
        raw, packed = raw + len(middle), packed + len(small)
        seconds.append(measure.best(functools.partial(zlib.decompress, small)))
    areas = store.box[:, 2].astype(float) * store.box[:, 3]
    tumour = areas[store.has_tumour].mean() / math.prod(store.slice_shape)
    return (
        f"kept {kept:.0%} of the pixels, {tumour:.0%} of slices with tumour; compressed "
        f"{packed / raw:.0%} of those, {1e3 * np.median(seconds):.2f} ms more to give a slice back"
    )


def parser() -> argparse.ArgumentParser:
    """Of its arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--patients", type=int, default=8, help="of the phantom")
    parser.add_argument("--shape", default="60,240,240", help="of the phantom: slices,H,W")
    parser.add_argument("--reads", type=int, default=200, help="slices in a turn")
    parser.add_argument("--turns", type=int, default=7)
    return parser


def main() -> None:
    arguments = parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:  # TMPDIR says on which disk
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
                    read = None  # it may hold maps of the turn before
                    if state == "cold":  # mapped pages cannot be dropped: opens the store again
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
        what_if = smaller(store)
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
    print(what_if)
    print(f"  {arguments.reads} slices a turn; {measure.where()}")


if __name__ == "__main__":
    main()
