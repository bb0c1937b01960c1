"""Compares the training step of the segmentation with each stronger augmentation to that without.

    python benchmarks/augmentation.py
    python benchmarks/augmentation.py --width=64 --batch=16 --turns=5

The reference has the augmentations of configs/base.py. All steps run in one process by turns.
Prints the median time of a step, and the ratio to the reference with median and quartiles over the
turns.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import measure  # noqa: E402
from benchmarks.one_step import random_patches, repeated_steps  # noqa: E402
from brats_jax.data.augment import LATER, Augmentation  # noqa: E402
from brats_jax.runtime import devices  # noqa: E402
from brats_jax.tasks import Segmentation  # noqa: E402

SIZE = 128
STEPS = 3  # of a turn
REFERENCE = "configs/base.py"


def variants() -> dict[str, Augmentation | None]:
    """The augmentations by name: none, the reference, and what is added to it."""
    base = Augmentation()
    added = {name: (name,) for name in LATER}
    added |= {"rotation, scaling": ("rotation", "scaling"), "the first five": LATER[:5]}
    return {
        REFERENCE: base,
        "none": None,
        **{f"+ {name}": replace(base, **dict.fromkeys(on, True)) for name, on in added.items()},
    }


def make_run(augmentation: Augmentation | None, width: int, batch: int) -> Callable[[], object]:
    """A function that runs `STEPS` steps."""
    dtype = devices.compute_dtype("auto")
    task = Segmentation(augmentation=augmentation, width=width, dtype=dtype)
    host = random_patches(batch, SIZE)
    if "background" in task.slice_facts:
        host["background"] = np.zeros((batch, 4), np.float16)
    return repeated_steps(task, host, STEPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--processor", action="store_true", help="time of all processors together")
    arguments = parser.parse_args()
    devices.keep_freed_memory()
    devices.use_compilation_cache("auto")
    print(f"width {arguments.width}, batch {arguments.batch}, {SIZE} x {SIZE}")
    runs = {
        name: make_run(augmentation, arguments.width, arguments.batch)
        for name, augmentation in variants().items()
    }
    # The time of the processors does not count what else the machine does.
    clock = time.process_time if arguments.processor else time.perf_counter
    found = measure.time_alternately(runs, arguments.turns, clock)
    for name, seconds in found.items():
        step_ms = 1e3 * float(np.median(seconds)) / STEPS
        ratio = measure.ratio(seconds, found[REFERENCE]).show(digits=3)
        print(f"{name:<24}{step_ms:7.0f} ms   x {ratio}", flush=True)
    print(measure.where())


if __name__ == "__main__":
    main()
