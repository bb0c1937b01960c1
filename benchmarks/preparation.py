"""Preparing one BraTS case beside merely decompressing its files, by turns, ratio first.

    python benchmarks/preparation.py --real=DIR   # the first case of BraTS NIfTI folders
    python benchmarks/preparation.py              # a phantom patient, written as one

Preparing is all that `brats_jax.prepare` does with a case: read, bring to LPS, audit, normalise,
write, checksum. Decompressing is `gzip.decompress` of the case's five files, one after another;
beside it the raw inflate of zlib (no checksum), which is the fastest in the standard library, and
the same on two threads. Page cache warm; `--cores` are what this process may use.
"""

import argparse
import concurrent.futures
import cProfile
import gzip
import os
import pstats
import tempfile
import zlib
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Spread
from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.nifti import NiftiSource
from brats_jax.data.sources.phantom.files import write_cases
from brats_jax.data.store.writer import write_case

PREPARATION = measure.Record("preparation", ratio=float, text=str)


def inflate(data: bytes) -> bytes:
    """The contents of a gzip file, unchecked, into room of the right size."""
    start = 10  # the header, and the name if there is one
    if data[3] & 8:
        start = data.index(0, start) + 1
    size = int.from_bytes(data[-4:], "little")
    return zlib.decompress(memoryview(data)[start:-8], -zlib.MAX_WBITS, size)


def parser() -> argparse.ArgumentParser:
    """Of its arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="a folder of BraTS cases")
    parser.add_argument("--shape", default="155,240,240", help="of the phantom: slices,H,W")
    parser.add_argument("--normalisation", choices=("slice", "volume"), default="slice")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="where the time goes, once")
    return parser


def main() -> None:
    arguments = parser().parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if not arguments.real:
            shape = [int(size) for size in arguments.shape.split(",")]
            write_cases(root / "cases", patients=1, shape=shape)
        cases = arguments.real or root / "cases"
        source = NiftiSource(cases, folder_files(cases))
        patient = source.patients()[0]
        files = [Path(name) for name in source.files_of(patient)]
        store = root / "store"
        (store / "cases").mkdir(parents=True)
        pool = concurrent.futures.ThreadPoolExecutor(arguments.cores)

        def prepare() -> object:
            return write_case(store, source, patient, arguments.normalisation)

        ways = {
            "prepared": prepare,
            "gzip": lambda: [gzip.decompress(file.read_bytes()) for file in files],
            "zlib": lambda: [inflate(file.read_bytes()) for file in files],
            "zlib, threads": lambda: list(
                pool.map(lambda file: len(inflate(file.read_bytes())), files)
            ),
        }
        took = measure.by_turns(ways, arguments.turns)
        busy = {name: measure.busy(ways[name], arguments.turns) for name in ("prepared", "gzip")}
        if arguments.profile:
            profile = cProfile.Profile()
            profile.runcall(prepare)
            pstats.Stats(profile).sort_stats("tottime").print_stats(14)
    against = measure.ratio(took["prepared"], took["gzip"])
    text = f"{against.show(digits=2)} of decompressing: {Spread.of(took['prepared']).show(1e3)} ms"
    print(f"{patient}: {text}")
    for name in list(ways)[1:]:
        print(
            f"  {name:<14}{Spread.of(took[name]).show(1e3)} ms; preparing takes "
            f"{measure.ratio(took['prepared'], took[name]).show(digits=2)} of it"
        )
    print(
        f"  processor time of all threads (load stretches it little) {1e3 * busy['prepared']:.0f} "
        f"and {1e3 * busy['gzip']:.0f} ms, {busy['prepared'] / busy['gzip']:.2f} of it"
    )
    print(f"  normalised by {arguments.normalisation}; {measure.where()}")
    PREPARATION.keep("preparation", ratio=against.middle, text=text)


if __name__ == "__main__":
    main()
