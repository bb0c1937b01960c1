"""Slices of a store read at random beside the disk's own speed for the same bytes, by turns.

    python benchmarks/store_access.py                   # a phantom store in a temporary folder
    python benchmarks/store_access.py --store=STORE

Ours: `Store.read` of one slice after the other, images and labels, 518 KB each. The disk's own:
os.pread of the same bytes into the same memory. Warm: all in the page cache. Cold: every file is
put out of it before each turn (posix_fadvise, which needs no rights; a file just written has to
be synced first) and the store opened anew. Warm: the store is open, as while training.

Beside it, what a smaller store would be: its share of the bytes with every slice compressed (zlib,
level 1) and the time to give one back; its share with every case cut to the box of its brain.
"""

import argparse
import functools
import math
import os
import tempfile
import zlib
from pathlib import Path

import measure
import numpy as np
from measure import Spread

from brats_jax.data.preparation import prepare
from brats_jax.data.store import Store, case_files


class Pread:
    """The same slices by file and offset."""

    def __init__(self, store: Store) -> None:
        self._store = store
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
        self._image = bytearray(height * width * 8)
        self._label = bytearray(height * width)

    def read(self, indices: np.ndarray) -> None:
        """Into one buffer, again and again."""
        store = self._store
        for index in indices:
            patient = store.patients[store.patient_of[index]]
            row = int(index) - store.slices_of(patient).start
            for name, buffer in zip(case_files(patient), (self._image, self._label), strict=False):
                file, start = self._files[name]
                read = os.preadv(file, [buffer], start + row * len(buffer))
                assert read == len(buffer)

    def forget(self) -> None:
        """Puts every file out of the page cache."""
        for file, _ in self._files.values():
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def ours(store: Store, indices: np.ndarray) -> None:
    """One slice after the other."""
    for index in indices:
        store.read([int(index)])


def smaller(store: Store) -> str:
    """What compressing slices, or cutting cases to their brains, would leave of the images."""
    kept, raw, packed, seconds = 0.0, 0, 0, []
    for patient in store.patients:
        slices = np.array(store.slices_of(patient))
        images = store.read(slices)[0]
        brain = (images != images[0, 0, 0]).any(-1)
        sides = [np.flatnonzero(brain.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
        kept += math.prod(int(np.ptp(side)) + 1 for side in sides) / brain.size
        middle = images[len(slices) // 2].tobytes()
        small = zlib.compress(middle, 1)
        raw, packed = raw + len(middle), packed + len(small)
        seconds.append(measure.best(functools.partial(zlib.decompress, small)))
    return (
        f"compressed {packed / raw:.0%} of the bytes, {1e3 * np.median(seconds):.2f} ms to give a "
        f"slice back; cut to the box of the brain {kept / len(store.patients):.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path)
    parser.add_argument("--patients", type=int, default=8, help="of the phantom")
    parser.add_argument("--shape", default="60,240,240", help="of the phantom: slices,H,W")
    parser.add_argument("--reads", type=int, default=200, help="slices in a turn")
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:  # TMPDIR says on which disk
        path = arguments.store or Path(folder) / "store"
        if not arguments.store:
            shape = [int(size) for size in arguments.shape.split(",")]
            prepare("phantom", path, patients=arguments.patients, seed=0, shape=shape)
        store = Store.open(path)
        pread = Pread(store)
        rng = np.random.default_rng(0)
        size = 9 * store.slice_shape[0] * store.slice_shape[1]
        rates: dict[str, list[float]] = {}
        for state in ("warm", "cold"):
            for turn in range(arguments.turns + 1):
                for name in ("store", "pread"):
                    chosen = rng.integers(0, store.num_slices, arguments.reads)
                    opened = store
                    if state == "cold":  # opened anew: mapped pages cannot be forgotten
                        opened = Store.open(path)
                        store._forget_maps()
                        pread.forget()
                    else:
                        ours(store, chosen)
                    read = pread.read if name == "pread" else functools.partial(ours, opened)
                    took = measure.timed(functools.partial(read, chosen))
                    if turn:
                        rates.setdefault(f"{state} {name}", []).append(len(chosen) / took)
        what_if = smaller(store)
    for state in ("warm", "cold"):
        mine, its = rates[f"{state} store"], rates[f"{state} pread"]
        print(
            f"{state}: {measure.ratio(mine, its).show(digits=2)} of the disk's own speed; "
            f"{Spread.of(mine).show(digits=0)} and {Spread.of(its).show(digits=0)} slices/s, "
            f"{np.median(mine) * size / 1e9:.2f} and {np.median(its) * size / 1e9:.2f} GB/s"
        )
        measure.result(f"access {state}", ratio=measure.ratio(mine, its).middle)
    print(what_if)
    print(f"  {arguments.reads} slices a turn; {measure.where()}")


if __name__ == "__main__":
    main()
