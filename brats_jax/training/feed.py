"""Training batches on the devices, prefetched, one portion for each dispatch.

Both placements give the same patches. `host`: loader threads cut them, and they are copied to
the devices while earlier steps run. `device`: the loader gives their positions, and the compiled
step cuts them from slices in device memory.
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

PREFETCH = 2  # portions on the devices besides the one that is handed out

# Most steps in a dispatch on an accelerator. Each dispatch costs 1 to 2 ms in Python for a state
# of 700 arrays, and 1 ms on the device to reorder the kernels and back; 25 steps hide both even
# where a step takes only 1 to 2 ms. 25 divides the defaults of log_every_steps and
# save_every_steps, so that these need no single steps.
STEPS_PER_DISPATCH = 25
# A dispatch takes at most about a second (1,300 patches/s of 128 x 128 on one A100): a stop
# request waits for the dispatches in flight.
PIXELS_PER_DISPATCH = 1_000 * 128 * 128


@dataclass(frozen=True)
class Cadence:
    """The division of a stage into dispatches: a pure function of the step.

    A resumed stage is therefore divided as an uninterrupted one.

    Attributes:
      steps: steps in a full dispatch.
      marks: no dispatch crosses a multiple of these (end of an epoch, logging, saving).
    """

    steps: int
    marks: tuple[int, ...]

    def length(self, step: int) -> int:
        """Steps in the dispatch that begins at `step`: `steps` or 1.

        Each length needs its own compiled program, so leftover steps before a mark run singly.
        """
        begin = max(step // mark * mark for mark in self.marks)
        end = min((step // mark + 1) * mark for mark in self.marks)
        aligned = (step - begin) % self.steps == 0
        return self.steps if aligned and end - step >= self.steps else 1


def steps_per_dispatch(setting: int, batch_size: int, patch_size: int) -> int:
    """Steps in a full dispatch.

    On CPU always 1: XLA:CPU gives convolutions the form of its fast kernels only outside of loops
    (`ConvCanonicalization` visits the entry computation alone). The scanned step took four times
    as long as the single step and rounded differently; a dispatch costs a thousandth of a step.

    Args:
      setting: the user's choice for accelerators; 0: `default_steps_per_dispatch`.
      batch_size, patch_size: size of a step.
    """
    if jax.default_backend() == "cpu":
        return 1
    return setting or default_steps_per_dispatch(batch_size, patch_size)


def default_steps_per_dispatch(batch_size: int, patch_size: int) -> int:
    """Default number of steps in a full dispatch on an accelerator."""
    most = PIXELS_PER_DISPATCH // (batch_size * patch_size**2)
    return max(1, min(STEPS_PER_DISPATCH, most))


class Portion(NamedTuple):
    """The input of one dispatch.

    Attributes:
      batch: arrays [B, ...] on the devices, or [steps, B, ...] if there are several steps.
      steps: number of optimiser steps.
      position: the loader's position after it, JSON-able, for a checkpoint.
    """

    batch: dict[str, jax.Array]
    steps: int
    position: dict[str, Any]


class Feed(Iterator[Portion]):
    """Iterator over the portions of a stage, from a step on.

    Args:
      store, plan, options: data, patches and settings.
      steps_per_epoch: optimiser steps in an epoch; the stage has `options.epochs` epochs.
      first: the first step.
      position: the loader's position at `first`, from a checkpoint; None at the beginning.
      mesh: the devices.
      resident: slices in device memory to cut from; None: patches are cut on the host.
      dispatch_steps: steps in a full dispatch; None: `steps_per_dispatch`.

    Attributes:
      position: the loader's position after the portion handed out last.
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
        *,
        dispatch_steps: int | None = None,
    ) -> None:
        self._mesh = mesh
        self._next, self._total = first, options.epochs * steps_per_epoch
        self._cadence = Cadence(
            dispatch_steps
            or steps_per_dispatch(
                options.steps_per_dispatch, options.batch_size, options.patch_size
            ),
            (steps_per_epoch, options.log_every_steps, options.save_every_steps),
        )
        self._batches = TrainingBatches(
            store,
            plan,
            patch_size=options.patch_size,
            batch_size=options.batch_size,
            steps=self._total,
            # Positions are drawn faster than a process could send them.
            workers=0 if resident else options.workers,
            threads=1 if resident else options.threads,
            positions_of=resident.positions if resident else None,
            rows=devices.local_rows(options.batch_size, mesh),
        )
        if position is not None:
            self._batches.set_state(position, first)
        self.position = self._batches.get_state()
        self._ready: collections.deque[Portion] = collections.deque()

    def __next__(self) -> Portion:
        while len(self._ready) <= PREFETCH and self._next < self._total:
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
