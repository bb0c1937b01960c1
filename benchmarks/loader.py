"""Patches per second of our loader and of a PyTorch DataLoader over Kaggle's slice files.

    python benchmarks/loader.py --peer_python=TORCH_VENV/bin/python   # needs torch and h5py there

Phantom slices of 240 x 240 are written in Kaggle's format (HDF5, gzip) and prepared into a store,
both in a temporary folder. Three parts of our loader are measured: patches cut on the host; the
plan's numbers alone, which are all that `data.placement=device` reads on the host; and cutting on
the device. All files are in the page cache. The loaders alternate in one run.
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from benchmarks import measure
from benchmarks.measure import Spread
from brats_jax.data.device_store import DeviceStore, gather
from brats_jax.data.modalities import MODALITIES
from brats_jax.data.patches import PatchPlan
from brats_jax.data.pipeline import TrainingBatches
from brats_jax.data.sources.phantom.source import PhantomSource
from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.runtime import devices

LOADER = measure.Record("loader", times=float, rate=float, text=str)
FILES = Path(__file__).parent.parent / "tests" / "brats_files.py"


def write_kaggle(folder: Path, patients: int, shape: tuple[int, int, int]) -> None:
    """Writes the slices of phantom patients as Kaggle's HDF5 files."""
    spec = importlib.util.spec_from_file_location("brats_files", FILES)
    assert spec is not None and spec.loader is not None
    files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(files)
    source = PhantomSource(patients, 0, shape)
    for number, patient in enumerate(source.patients(), 1):
        case = source.read(patient)
        volumes = {n: case.images[..., m].transpose(1, 2, 0) for m, n in enumerate(MODALITIES)}
        volumes["seg"] = case.labels.transpose(1, 2, 0)
        files.write_kaggle(folder, number, volumes, compression="gzip")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=3)
    parser.add_argument("--slices", type=int, default=40, help="slices of each patient")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2, help="our threads, the peer's processes")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--peer_python", help="Python with torch and h5py; without it, no peer is measured"
    )
    return parser


def main() -> None:
    arguments = parser().parse_args()
    devices.keep_freed_memory()  # as the commands do
    batch, patch = arguments.batch, arguments.patch
    shape = (arguments.slices, 240, 240)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare("phantom", root / "store", patients=arguments.patients, seed=0, shape=shape)
        store = Store.open(root / "store")
        slices = np.arange(store.num_slices)
        plan = PatchPlan(store, slices, patch_size=patch, tumour_probability=0.5, seed=0)
        mesh = measure.one_device_mesh()
        resident = DeviceStore(store, slices, mesh)
        options = {"patch_size": patch, "batch_size": batch, "steps": 10**9}
        host = TrainingBatches(store, plan, threads=arguments.threads, **options)
        numbers = TrainingBatches(
            store, plan, threads=1, positions_of=resident.positions, **options
        )
        cut = jax.jit(lambda arrays, at: gather(arrays, at, patch, mesh))
        drawn = devices.put_batch(resident.positions(plan.examples(0, batch)), mesh)

        def loaded(batches: TrainingBatches) -> Callable[[], object]:
            return lambda: next(batches)

        def cut_on_device() -> object:
            return jax.block_until_ready(cut(resident.arrays, drawn))

        loaders = {
            "host: cut by Grain's threads": (loaded(host), 64),
            "device: the plan's numbers": (loaded(numbers), 64),
            "device: cutting": (cut_on_device, 64),
        }
        rates: dict[str, list[float]] = {name: [] for name in [*loaders, "PyTorch"]}
        peer = None
        if arguments.peer_python:
            write_kaggle(root / "kaggle", arguments.patients, shape)
            flags = [f"--folder={root / 'kaggle'}", f"--batch={batch}", f"--patch={patch}"]
            flags.append(f"--workers={arguments.threads}")
            peer = measure.Peer(arguments.peer_python, "peers/torch_loader.py", flags)
        for turn in range(arguments.turns + 1):
            if peer:
                count = 8 * batch
                rates["PyTorch"].append(count / peer.request(count)[0])
            for name, (run, repeats) in loaders.items():
                run()
                start = time.perf_counter()
                for _ in range(repeats):
                    run()
                rates[name].append(repeats * batch / (time.perf_counter() - start))
            if turn == 0:  # excludes prefetched batches and compilation
                rates = {name: [] for name in rates}
        host.close()
        numbers.close()
        if peer:
            peer.close()
            ours = rates["host: cut by Grain's threads"]
            times = measure.ratio(ours, rates["PyTorch"])
            print(
                f"{times.show(digits=0)} times the DataLoader's patches per second; "
                f"torch {peer.description['version']}"
            )
            rate = Spread.of(ours)
            text = f"{times.show(digits=0)} x; {rate.show(digits=0)} patches/s"
            LOADER.keep("loader", times=times.middle, rate=rate.middle, text=text)
    for name, values in rates.items():
        if values:
            print(f"  {name:<30} {Spread.of(values).show(digits=0)} patches/s")
    print(
        f"  batch {batch}, {patch} x {patch}, {arguments.threads} threads or processes; "
        f"{measure.where()}"
    )


if __name__ == "__main__":
    main()
