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
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import measure  # noqa: E402
from benchmarks.train_step import repeated, step_of_task  # noqa: E402
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


def make_run(task: Segmentation, batch: int) -> Callable[[], object]:
    """A function that runs `STEPS` steps."""
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1], axis_types=(AxisType.Auto,))
    step, state = step_of_task(task, "train", mesh)
    rng = np.random.default_rng(0)
    shape = (batch, SIZE, SIZE)
    host = {
        "image": rng.standard_normal((*shape, 4)).astype(np.float16),
        "label": rng.integers(0, 4, shape).astype(np.uint8),
        "seed": np.arange(batch, dtype=np.uint32),
    }
    return repeated(step, state, host, mesh, STEPS)


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
    runs = {name: make_run(task, arguments.batch) for name, task in tasks.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():  # compiles
        jax.block_until_ready(run())
    for _ in range(arguments.turns):
        for name, run in runs.items():
            before = time.process_time()
            seconds = measure.timed(run)
            times[name].append((seconds, time.process_time() - before))
    for name, both in times.items():
        step_ms = 1e3 * float(np.median([seconds for seconds, _ in both])) / STEPS
        wall, processor = (
            measure.ratio([one[k] for one in both], [one[k] for one in times[REFERENCE]])
            for k in (0, 1)
        )
        task = tasks[name]
        cost = cost_of(lambda task=task: task.build(0), (SIZE, SIZE, len(task.stem_channels)))
        print(f"{name:<16}{cost.words()}")
        print(
            f"{name:<16}{step_ms:7.0f} ms   x {wall.show(digits=3)}, "
            f"processor time x {processor.show(digits=3)}",
            flush=True,
        )
    print(measure.where())


if __name__ == "__main__":
    main()
