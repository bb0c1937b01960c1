"""What the training loop is fed: batches on the devices, a few ahead, one for each dispatch.

Two placements of the same patch plan give the same patches: `host`, where Grain cuts them and
they are copied while the step before runs, and `device`, where Grain carries the plan's numbers
and the compiled step cuts its own.
"""

import collections
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from brats_jax.data.device_store import DeviceStore
from brats_jax.data.patches import PatchPlan
from brats_jax.data.pipeline import TrainingBatches
from brats_jax.data.store.reader import Store
from brats_jax.runtime import devices
from brats_jax.training.options import TrainOptions

AHEAD = 2  # batches that lie on the devices before they are needed

# Steps of a dispatch on an accelerator: a state of 700 arrays takes Python a millisecond or two
# to hand over, and the device another to bring the kernels into its order and back, which 25
# steps hide even where a step takes as little. Divides the defaults of log_every_steps and
# save_every_steps, so that no step has to be done alone for them.
STEPS_PER_DISPATCH = 25
# ... but at most about a second of work (1,300 patches/s of 128 x 128 on one A100), so that a
# stop request is answered in time.
PIXELS_PER_DISPATCH = 1_000 * 128 * 128


@dataclass(frozen=True)
class Cadence:
    """How a run is cut into dispatches: a pure function of the step, so that a run that was
    stopped and goes on is cut as it would have been.

    Attributes:
      steps: of a full dispatch.
      marks: no dispatch crosses a multiple of these (end of an epoch, logging, saving).
    """

    steps: int
    marks: tuple[int, ...]

    def length(self, step: int) -> int:
        """Steps of the dispatch that begins at `step`: a full one, or 1.

        Two sizes, because each is compiled; what is left before a mark is done one by one.
        """
        begin = max(step // mark * mark for mark in self.marks)
        end = min((step // mark + 1) * mark for mark in self.marks)
        aligned = (step - begin) % self.steps == 0
        return self.steps if aligned and end - step >= self.steps else 1


def steps_per_dispatch(setting: int, batch_size: int, patch_size: int) -> int:
    """Steps of a full dispatch; `setting` 0 chooses.

    On CPU always 1: XLA:CPU brings convolutions into the form of its fast kernels only outside
    of loops (`ConvCanonicalization` looks at the entry computation alone). The scanned step
    took four times as long as the single one and rounded differently, and what a dispatch costs
    is a thousandth of a step there.
    """
    if jax.default_backend() == "cpu":
        return 1
    return setting or accelerators_steps(batch_size, patch_size)


def accelerators_steps(batch_size: int, patch_size: int) -> int:
    """Steps of a full dispatch on an accelerator, if the user does not say."""
    most = PIXELS_PER_DISPATCH // (batch_size * patch_size**2)
    return max(1, min(STEPS_PER_DISPATCH, most))


class Portion(NamedTuple):
    """What one dispatch gets.

    Attributes:
      batch: on the devices; with a leading axis [steps] unless steps is 1.
      steps: how many optimiser steps it is for.
      position: of the loader after it, for a checkpoint.
    """

    batch: dict[str, jax.Array]
    steps: int
    position: dict[str, Any]


class Feed(Iterator[Portion]):
    """The batches of a run from a step on.

    Args:
      store, plan, options: what to cut.
      steps_per_epoch: of the run, which has `options.epochs` of them.
      first: the step to begin at.
      position: of the loader at `first`, from a checkpoint; None at the beginning.
      mesh: the devices.
      resident: the slices in device memory; None cuts on the host.

    Attributes:
      position: of the loader, after what was handed out.
    """

    def __init__(
        self,
        store: Store,
        plan: PatchPlan,
        options: TrainOptions,
        steps_per_epoch: int,
        first: int,
        position: dict[str, Any] | None,
        mesh: Mesh,
        resident: DeviceStore | None = None,
    ) -> None:
        self._mesh = mesh
        self._next, self._total = first, options.epochs * steps_per_epoch
        self._cadence = Cadence(
            steps_per_dispatch(options.steps_per_dispatch, options.batch_size, options.patch_size),
            (steps_per_epoch, options.log_every_steps, options.save_every_steps),
        )
        self._batches = TrainingBatches(
            store,
            plan,
            patch_size=options.patch_size,
            batch_size=options.batch_size,
            steps=self._total,
            # The plan's numbers are drawn faster than a process could send them.
            workers=0 if resident else options.workers,
            threads=1 if resident else options.threads,
            numbers=resident.numbers if resident else None,
            rows=devices.local_rows(options.batch_size, mesh),
        )
        if position is not None:
            self._batches.set_state(position, first)
        self.position = self._batches.get_state()
        self._ready: collections.deque[Portion] = collections.deque()

    def __next__(self) -> Portion:
        while len(self._ready) <= AHEAD and self._next < self._total:
            self._ready.append(self._load())
        if not self._ready:
            raise StopIteration
        portion = self._ready.popleft()
        self.position = portion.position
        return portion

    def _load(self) -> Portion:
        steps = self._cadence.length(self._next)
        parts = [next(self._batches) for _ in range(steps)]
        self._next += steps
        if steps == 1:
            placed = devices.put_batch(parts[0], self._mesh)
        else:
            stacked = jax.tree.map(lambda *p: np.stack(p), *parts)
            placed = devices.put_batches(stacked, self._mesh)
        return Portion(placed, steps, self._batches.get_state())

    def close(self) -> None:
        """Ends the reading threads and worker processes."""
        self._batches.close()
