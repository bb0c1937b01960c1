"""Compares the training step of each fusion of modalities with that of `early`.

    python benchmarks/fusion.py
    python benchmarks/fusion.py --turns=15 --dropout=0.5 --fusions=stem,attention

All steps run in one process by turns. Prints for each fusion the parameters, the multiplications
for a patch in prediction, the median time of a step, and the ratio to `early` with median and
quartiles over the turns: of the time, and of the processor time of all threads, which other
programs of the machine disturb less. `encoders:own` and `attention:own` have an encoder for each
modality.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import measure  # noqa: E402
from benchmarks.one_step import random_patches, repeated_steps  # noqa: E402
from brats_jax.models import FUSIONS  # noqa: E402
from brats_jax.models.cost import cost_of  # noqa: E402
from brats_jax.runtime import devices  # noqa: E402
from brats_jax.tasks import Segmentation  # noqa: E402

SIZE = 128
STEPS = 3  # of a turn
REFERENCE = next(iter(FUSIONS))
OWN = ("encoders:own", "attention:own")


def task_of(name: str, width: int, dropout: float) -> Segmentation:
    """The segmentation with a fusion, such as 'attention' or 'attention:own'."""
    fusion, _, weights = name.partition(":")
    return Segmentation(
        width=width,
        dtype=devices.compute_dtype("auto"),
        fusion_name=fusion,
        fusion_weights=weights or "shared",
        modality_dropout=dropout,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--fusions", default=",".join((*list(FUSIONS)[1:], *OWN)))
    arguments = parser.parse_args()
    devices.keep_freed_memory()
    devices.use_compilation_cache("auto")
    names = [REFERENCE, *arguments.fusions.split(",")]
    tasks = {name: task_of(name, arguments.width, arguments.dropout) for name in names}
    print(
        f"width {arguments.width}, batch {arguments.batch}, {SIZE} x {SIZE}, "
        f"modality dropout {arguments.dropout}"
    )
    host = random_patches(arguments.batch, SIZE)
    runs = {name: repeated_steps(task, host, STEPS) for name, task in tasks.items()}
    times = measure.wall_and_processor_seconds(runs, arguments.turns)
    for name, both in times.items():
        step_ms = 1e3 * float(np.median([seconds for seconds, _ in both])) / STEPS
        task = tasks[name]
        cost = cost_of(lambda task=task: task.build(0), (SIZE, SIZE, len(task.stem_channels)))
        print(f"{name:<16}{cost.words()}")
        ratio = measure.wall_and_processor_ratio(both, times[REFERENCE])
        print(f"{name:<16}{step_ms:7.0f} ms   x {ratio}", flush=True)
    print(measure.where())


if __name__ == "__main__":
    main()
