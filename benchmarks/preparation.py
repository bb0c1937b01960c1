"""Compares the time to prepare one BraTS case with the time to decompress its files.

    python benchmarks/preparation.py --real=DIR   # the first case of BraTS NIfTI folders
    python benchmarks/preparation.py              # a phantom patient, written as NIfTI files

Preparation is the work of `brats_jax.prepare` on one case: read, reorient to LPS, audit, normalise,
write, checksum. It is compared with `gzip.decompress` of the case's five files in sequence, with
zlib's raw inflate (without checksum, the fastest in the standard library), with raw inflate on
several threads, and with the preparation of the same case without its labels. The functions
alternate; the files are in the page cache.
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
from brats_jax.data.scans.naming import SEG, parse_volume_name
from brats_jax.data.sources.base import folder_files
from brats_jax.data.sources.nifti import NiftiSource
from brats_jax.data.sources.phantom.files import write_cases
from brats_jax.data.store.writer import write_case

PREPARATION = measure.Record("preparation", ratio=float, text=str)


def inflate(data: bytes) -> bytes:
    """Decompresses a gzip file without verifying its checksum, into a buffer of the final size."""
    start = 10  # end of the header, followed by the file name if flag 8 is set
    if data[3] & 8:
        start = data.index(0, start) + 1
    size = int.from_bytes(data[-4:], "little")
    return zlib.decompress(memoryview(data)[start:-8], -zlib.MAX_WBITS, size)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="a folder of BraTS cases")
    parser.add_argument("--shape", default="155,240,240", help="slices,H,W of the phantom")
    parser.add_argument("--normalisation", choices=("slice", "volume"), default="slice")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--cores", type=int, default=2, help="CPU cores and threads to use")
    parser.add_argument("--profile", action="store_true", help="print a profile of one preparation")
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
        images = [p for p in files if (name := parse_volume_name(p.name)) and name.volume != SEG]
        without_labels = NiftiSource(cases, images)
        store = root / "store"
        (store / "cases").mkdir(parents=True)
        pool = concurrent.futures.ThreadPoolExecutor(arguments.cores)

        def prepare() -> object:
            return write_case(store, source, patient, arguments.normalisation)

        functions = {
            "prepared": prepare,
            "unlabelled": lambda: write_case(
                store, without_labels, patient, arguments.normalisation
            ),
            "gzip": lambda: [gzip.decompress(file.read_bytes()) for file in files],
            "zlib": lambda: [inflate(file.read_bytes()) for file in files],
            "zlib, threads": lambda: list(
                pool.map(lambda file: len(inflate(file.read_bytes())), files)
            ),
        }
        took = measure.time_alternately(functions, arguments.turns)
        busy = {
            n: measure.least_processor_seconds(functions[n], arguments.turns)
            for n in ("prepared", "unlabelled", "gzip")
        }
        if arguments.profile:
            profile = cProfile.Profile()
            profile.runcall(prepare)
            pstats.Stats(profile).sort_stats("tottime").print_stats(14)
    against = measure.ratio(took["prepared"], took["gzip"])
    text = (
        f"{against.show(digits=2)} of the time of decompression: "
        f"{Spread.of(took['prepared']).show(1e3)} ms"
    )
    print(f"{patient}: {text}")
    print(
        f"  without labels {Spread.of(took['unlabelled']).show(1e3)} ms, "
        f"{measure.ratio(took['unlabelled'], took['prepared']).show(digits=2)} of the time with "
        f"them; processor time {busy['unlabelled'] / busy['prepared']:.2f} of it"
    )
    for name in list(functions)[2:]:
        print(
            f"  {name:<14}{Spread.of(took[name]).show(1e3)} ms; preparation takes "
            f"{measure.ratio(took['prepared'], took[name]).show(digits=2)} of this time"
        )
    print(
        f"  processor time of all threads (depends little on load): preparation "
        f"{1e3 * busy['prepared']:.0f} ms, gzip {1e3 * busy['gzip']:.0f} ms, ratio "
        f"{busy['prepared'] / busy['gzip']:.2f}"
    )
    print(f"  normalised by {arguments.normalisation}; {measure.where()}")
    PREPARATION.keep("preparation", ratio=against.middle, text=text)


if __name__ == "__main__":
    main()
