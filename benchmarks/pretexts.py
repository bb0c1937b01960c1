"""Compares the training step of each pretext with that of `cross_modality`, decoder by decoder.

    python benchmarks/pretexts.py
    python benchmarks/pretexts.py --width=16 --batch=4 --turns=15 --decoders=unet

All steps run in one process by turns. Prints for each decoder and pretext the median time of a
step, and the ratio to `cross_modality` with median and quartiles over the turns. A donor's patch,
which `shuffled` reads too, lies in memory here.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import measure  # noqa: E402
from benchmarks.one_step import random_patches, repeated_steps  # noqa: E402
from brats_jax.models import DECODERS  # noqa: E402
from brats_jax.pretexts import PRETEXTS  # noqa: E402
from brats_jax.runtime import devices  # noqa: E402
from brats_jax.tasks import Pretraining  # noqa: E402

SIZE = 128
STEPS = 3  # of a turn
REFERENCE = next(iter(PRETEXTS))


def make_run(name: str, decoder: str, width: int, batch: int) -> Callable[[], object]:
    """A function that runs `STEPS` steps."""
    dtype = devices.compute_dtype("auto")
    task = Pretraining(pretext_name=name, decoder=decoder, width=width, dtype=dtype)
    host = random_patches(batch, SIZE)
    if task.pretext.needs_donor:
        host["donor"] = np.roll(host["image"], 1, axis=0)  # the patch of another example
    return repeated_steps(task, host, STEPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--decoders", default=",".join(DECODERS))
    arguments = parser.parse_args()
    devices.keep_freed_memory()
    devices.use_compilation_cache("auto")
    print(f"width {arguments.width}, batch {arguments.batch}, {SIZE} x {SIZE}")
    for decoder in arguments.decoders.split(","):
        runs = {
            name: make_run(name, decoder, arguments.width, arguments.batch) for name in PRETEXTS
        }
        found = measure.time_alternately(runs, arguments.turns)
        for name, seconds in found.items():
            step_ms = 1e3 * float(np.median(seconds)) / STEPS
            ratio = measure.ratio(seconds, found[REFERENCE]).show(digits=3)
            print(f"{decoder:<12}{name:<16}{step_ms:7.0f} ms   x {ratio}", flush=True)
    print(measure.where())


if __name__ == "__main__":
    main()
