"""The checks of a store's files as a share of the first epoch of a training.

    python benchmarks/store_checks.py --store=STORE
    python benchmarks/store_checks.py --store=STORE --widths=64 --patches_per_second=6230

Each file of a case is compared with its CRC-32 when the case is first read, once in each process.
This times these checks in one thread, with the files in the page cache, and a training step of each
stage and width (augmentation off, batches in device memory). An epoch is one pass over the
slices: of the segmentation those with tumour, of the pretraining all. --patches_per_second replaces
the timed step, for the rate of another device.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from benchmarks import measure
from benchmarks.one_step import random_patches, step_of_task
from brats_jax.data.store.layout import PREPARE_AGAIN, case_files
from brats_jax.data.store.memory_maps import check_file
from brats_jax.data.store.reader import Store
from brats_jax.runtime import devices
from brats_jax.tasks import Pretraining, Segmentation

SIZE = 128
EPOCHS = 30


def check_seconds(store: Store) -> float:
    """Seconds to compare all files of all cases, in one thread."""
    names = [name for patient in store.patients for name in case_files(patient)]
    entries = {name: store.manifest.files[name] for name in names if name in store.manifest.files}

    def check() -> None:
        for name, entry in entries.items():
            check_file(store.path / name, entry, PREPARE_AGAIN)

    return measure.least_seconds(check)


def patches_per_second(stage: str, width: int, batch: int, steps: int) -> float:
    """Patches that a training step of a stage takes in a second, on this device."""
    dtype = devices.compute_dtype("auto")
    task: Segmentation | Pretraining = Segmentation(width=width, dtype=dtype)
    if stage == "pretrain":
        task = Pretraining(width=width, dtype=dtype)
    mesh = devices.training_mesh()
    step, state = step_of_task(task, "train", mesh)
    host = random_patches(batch, SIZE)
    examples = devices.put_batch(host, mesh)
    state = jax.device_put(state, devices.replicated_sharding(mesh))

    def run() -> object:
        nonlocal state
        state, progress = step(state, examples)
        return progress

    measure.timed(run)  # compiles
    return batch / float(np.median([measure.timed(run) for _ in range(steps)]))


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--widths", default="16,64")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--patches_per_second", type=float)
    return parser


def main() -> None:
    arguments = parser().parse_args()
    devices.keep_freed_memory()
    store = Store.open(arguments.store)
    seconds = check_seconds(store)
    size = sum(entry.bytes for entry in store.manifest.files.values())
    print(
        f"{len(store.patients)} cases, {size / 1e9:.2f} GB: checked in {seconds:.3f} s, "
        f"{1e3 * seconds / len(store.patients):.1f} ms for a case, {size / seconds / 1e9:.1f} GB/s"
    )
    slices = {"pretrain": store.num_slices, "segment": int(store.has_tumour.sum())}
    for width in map(int, arguments.widths.split(",")):
        for stage, count in slices.items():
            rate = arguments.patches_per_second or patches_per_second(
                stage, width, arguments.batch, arguments.steps
            )
            epoch = count / rate
            print(
                f"width {width}, {stage}: {rate:.2f} patches/s, an epoch of {count:,} slices takes "
                f"{epoch:.2f} s: checks are {seconds / epoch:.3%} of the first, "
                f"{seconds / epoch / EPOCHS:.4%} of {EPOCHS}",
                flush=True,
            )
    print(measure.where())


if __name__ == "__main__":
    main()
