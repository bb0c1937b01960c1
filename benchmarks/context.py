"""Compares the training step of a segmentation with neighbouring slices to the one without.

    python benchmarks/context.py --store=stores/default
    python benchmarks/context.py --store=stores/default --width=32 --batch=16 --turns=11

Cuts the patches from the store on the host, augments them and takes an optimiser step, one after
the other; a training cuts the next patches while a step runs. All contexts run in one process by
turns. Prints for each the median time of a step, of its cutting alone, and the ratio of steps to
context 0 with median and quartiles over the turns: of the time, and of the processor time of all
threads, which other programs of the machine disturb less.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import measure  # noqa: E402
from benchmarks.one_step import step_of_task  # noqa: E402
from brats_jax.data.augment import Augmentation  # noqa: E402
from brats_jax.data.patches import PatchPlan, cut  # noqa: E402
from brats_jax.data.slice_facts import SliceFacts  # noqa: E402
from brats_jax.data.store.reader import Store  # noqa: E402
from brats_jax.runtime import devices  # noqa: E402
from brats_jax.tasks import Segmentation  # noqa: E402

SIZE = 128
STEPS = 3  # of a turn
CONTEXTS = (0, 1, 2)


def make_run(
    store: Store, context: int, width: int, batch: int
) -> tuple[Callable[[], object], list[float]]:
    """A function that runs `STEPS` steps, and the seconds that each cutting took, in its order."""
    mesh = measure.one_device_mesh()
    task = Segmentation(
        context=context,
        width=width,
        dtype=devices.compute_dtype("auto"),
        augmentation=Augmentation(),
    )
    step, state = step_of_task(task, "train", mesh)
    kept = jax.device_put(state, devices.replicated_sharding(mesh))
    slices = np.flatnonzero(store.has_tumour)
    plan = PatchPlan(
        store,
        slices,
        patch_size=SIZE,
        tumour_probability=0.5,
        seed=0,
        facts=SliceFacts(store, context=context),
    )
    numbers, cutting = itertools.count(), []

    def run() -> object:
        nonlocal kept
        for _ in range(STEPS):
            start = time.perf_counter()
            patches = cut(store, plan.examples(next(numbers) * batch, batch), SIZE)
            cutting.append(time.perf_counter() - start)
            kept, progress = step(kept, devices.put_batch(patches, mesh))
        return progress

    return run, cutting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", required=True)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args()
    devices.keep_freed_memory()
    devices.use_compilation_cache("auto")
    store = Store.open(arguments.store)
    print(f"width {arguments.width}, batch {arguments.batch}, {SIZE} x {SIZE}")
    made = {c: make_run(store, c, arguments.width, arguments.batch) for c in CONTEXTS}
    runs = {context: run for context, (run, _) in made.items()}
    times = measure.wall_and_processor_seconds(runs, arguments.turns)
    for context, both in times.items():
        step_ms = 1e3 * float(np.median([seconds for seconds, _ in both])) / STEPS
        cut_ms = 1e3 * float(np.median(made[context][1][STEPS:]))
        ratio = measure.wall_and_processor_ratio(both, times[0])
        print(
            f"context {context}{step_ms:7.0f} ms, cutting {cut_ms:5.1f} ms   x {ratio}", flush=True
        )
    print(measure.where())


if __name__ == "__main__":
    main()
