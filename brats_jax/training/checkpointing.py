"""Asynchronous `last` and `best` checkpoints.

`last` holds the state of the training; `best` the network that was validated, which is the average
where there is one.

Order and threads are here; files and formats are in `runs.checkpoints`.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from brats_jax.errors import BratsError
from brats_jax.runs import checkpoints
from brats_jax.runs.checkpoints import CheckpointMeta, Checkpoints
from brats_jax.runs.folder import StageFolder
from brats_jax.runtime import distributed
from brats_jax.runtime.console import print_line
from brats_jax.training.steps import TrainState

# A copy on the devices between two steps: the next step reuses the memory of its argument.
take_snapshot = jax.jit(lambda state: jax.tree.map(jnp.copy, state))


def restore_last(
    folder: StageFolder, like: TrainState, model: Mapping[str, Any]
) -> tuple[TrainState, CheckpointMeta]:
    """Restores the newest `last` checkpoint of a stage.

    Args:
      folder: the stage's folder.
      like: a state of the same shapes, types and placement.
      model: `Task.describe()` of the network that the checkpoint must have.

    Returns:
      (state, meta).

    Raises:
      BratsError: no checkpoint, one of another model, or one that cannot be read.
    """
    template = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like.parts
    )
    restored, meta = checkpoints.read(folder.last, template, model)
    return TrainState(**restored), meta


class StageCheckpoints:
    """Writes the `last` and `best` checkpoints of one stage in a thread.

    A `last` of step N records that step N was validated, so it must not exist before the `best`
    of step N: for each `save` the thread writes `best`, waits until it is on disk, then writes
    `last`. The thread also copies from the devices.

    Of several processes the main one reads and writes. The others make the same calls, do not
    wait for the writing, and end if it fails (see `distributed.broadcast_from_main`).

    Args:
      folder: the stage's folder.

    Attributes:
      last, best: the folders of the two.
    """

    def __init__(self, folder: StageFolder) -> None:
        self._folder, self.last, self.best = folder, folder.last, folder.best
        self._written: Future[None] | None = None
        if distributed.is_main():
            self._writer = ThreadPoolExecutor(1, "checkpoints")
            self._last, self._best = Checkpoints(self.last), Checkpoints(self.best)

    def latest_step(self) -> int | None:
        """The step of the newest complete `last`, or None."""
        return distributed.broadcast_from_main(lambda: self._last.latest_step())

    def best_value(self) -> float | None:
        """The validation score of the newest complete `best`, or None."""
        return distributed.broadcast_from_main(
            lambda: (
                None if self._best.latest_step() is None else checkpoints.read_meta(self.best).value
            )
        )

    def repair_best(
        self, state: TrainState, meta: CheckpointMeta, validations: Mapping[int, float]
    ) -> None:
        """Writes a missing `best` again, if it is of the same step as `last`.

        Args:
          state, meta: the `last` checkpoint.
          validations: by step, the values of the validation that were the best so far.

        Raises:
          BratsError: `best` is missing, and `last` does not hold its weights.
        """

        def repair() -> None:
            if not meta.validated_step or self._best.latest_step() is not None:
                return
            best = max((step for step in validations if step <= meta.validated_step), default=None)
            if best is None or best != meta.step:
                others = [f"{self.last}"]
                if self._folder.complete_json.exists():
                    others.append(str(self._folder.complete_json))
                raise BratsError(
                    f"{self.best} holds no checkpoint{f' of step {best}' if best else ''}, and "
                    f"{self.last} is of step {meta.step}: copy {self.best} back, or remove "
                    f"{' and '.join(others)} and give the same command again, which trains this "
                    "stage from its beginning"
                )
            described = dataclasses.replace(meta, value=validations[best])
            self._best.save(meta.step, state.network, described)
            self._best.wait()
            print_line(f"note: {self.best} was missing; made again from {self.last}")

        distributed.broadcast_from_main(repair)

    def save(
        self,
        step: int,
        snapshot: TrainState,
        meta: CheckpointMeta,
        best_value: float | None = None,
    ) -> None:
        """Starts writing, after the previous save is on disk.

        Args:
          step: number of the step.
          snapshot: the state after it (`take_snapshot`); must not be donated.
          meta: its description.
          best_value: the validation score, if it is the best so far: writes `best` too.

        Raises:
          BratsError: the previous save failed.
        """

        def submit() -> None:
            self.wait()
            self._written = self._writer.submit(self._write, step, snapshot, meta, best_value)

        distributed.broadcast_from_main(submit)

    def _write(
        self,
        step: int,
        snapshot: TrainState,
        meta: CheckpointMeta,
        best_value: float | None,
    ) -> None:
        if best_value is not None:
            self._best.save(step, snapshot.network, dataclasses.replace(meta, value=best_value))
            self._best.wait()
        self._last.save(step, snapshot.parts, meta)
        self._last.wait()

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
          BratsError: it failed.
        """
        distributed.broadcast_from_main(self._wait)

    def finish(self) -> None:
        """Waits, and leaves one checkpoint in each folder, at the end of the training.

        Raises:
          BratsError: the last save failed.
        """

        def finish() -> None:
            self._wait()
            self._last.remove_older()
            self._best.remove_older()

        distributed.broadcast_from_main(finish)

    def check(self) -> None:
        """Raises the error of a save that has failed; does not wait for one in progress.

        Raises:
          BratsError: the last save failed.
        """

        def check() -> None:
            if self._written is not None and self._written.done():
                self._wait()

        distributed.broadcast_from_main(check)

    def _wait(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def close(self) -> None:
        """Waits in the main process, and ends the threads.

        Raises:
          BratsError: the last save failed.
        """
        if not distributed.is_main():
            return
        with contextlib.closing(self._best), contextlib.closing(self._last), self._writer:
            self._wait()
