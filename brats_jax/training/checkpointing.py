"""A stage's two checkpoints, `last` and `best`, written behind the training's back."""

import contextlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from brats_jax.runs import checkpoints
from brats_jax.runs.checkpoints import Checkpoints
from brats_jax.runtime import distributed
from brats_jax.training.steps import TrainState

# Taken on the devices, between two steps: the next one reuses the memory of what it is given.
take_snapshot = jax.jit(lambda state: jax.tree.map(jnp.copy, state))


class Saving:
    """Saves a stage's state in the order in which it is told to, by a thread of its own.

    `last` says that its step is validated, so it must not be there before `best` is: of one
    call to `save` the thread writes `best`, waits until it is on disk, and then writes `last`.
    Copying from the devices is the thread's work, too.

    Of several processes the first one reads and writes; the others make the same calls, do not
    wait for what is being written, and end if it fails (see distributed.broadcast_from_main).

    Args:
      directory: the stage's folder.
    """

    def __init__(self, directory: Path) -> None:
        self.last, self.best = directory / "last", directory / "best"
        self._written: Future[None] | None = None
        if distributed.is_main():
            self._writer = ThreadPoolExecutor(1, "checkpoints")
            self._last, self._best = Checkpoints(self.last), Checkpoints(self.best)

    def latest_step(self) -> int | None:
        """The step of the newest whole `last`, or None."""
        return distributed.broadcast_from_main(lambda: self._last.latest_step())

    def best_value(self) -> float | None:
        """What the newest whole `best` was chosen by, or None."""
        return distributed.broadcast_from_main(self._best_value)

    def _best_value(self) -> float | None:
        if self._best.latest_step() is None:
            return None
        return checkpoints.read_meta(self.best)["value"]

    def save(
        self,
        step: int,
        snapshot: TrainState,
        meta: Mapping[str, Any],
        best_value: float | None = None,
    ) -> None:
        """Begins to write, once what was saved before is on disk.

        Args:
          step: the step.
          snapshot: the state after it (`take_snapshot`); not to be donated.
          meta: JSON-able description.
          best_value: what the step is the best by, if it is.

        Raises:
          BratsError: what was saved before could not be written.
        """
        distributed.broadcast_from_main(lambda: self._begin(step, snapshot, meta, best_value))

    def _begin(self, *what: Any) -> None:
        self._wait()
        self._written = self._writer.submit(self._write, *what)

    def _write(
        self,
        step: int,
        snapshot: TrainState,
        meta: Mapping[str, Any],
        best_value: float | None,
    ) -> None:
        if best_value is not None:
            weights = {"params": snapshot.params, "stats": snapshot.stats}
            self._best.save(step, weights, {**meta, "value": best_value})
            self._best.wait()
        self._last.save(step, snapshot._asdict(), meta)
        self._last.wait()

    def wait(self) -> None:
        """Returns when what was saved is on disk.

        Raises:
          BratsError: it could not be written.
        """
        distributed.broadcast_from_main(self._wait)

    def check(self) -> None:
        """Waits for nothing, but hears of what has failed.

        Raises:
          BratsError: what was saved could not be written.
        """
        distributed.broadcast_from_main(self._check)

    def _check(self) -> None:
        if self._written is not None and self._written.done():
            self._wait()

    def _wait(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def close(self) -> None:
        """Waits, and ends the threads; the others need not do the same."""
        if not distributed.is_main():
            return
        with contextlib.closing(self._best), contextlib.closing(self._last), self._writer:
            self._wait()
