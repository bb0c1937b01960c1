"""The loop of one training stage: steps, validation, best and last checkpoint, stopping."""

import collections
import dataclasses
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brats_jax import models
from brats_jax.data.device_store import DeviceStore, bytes_needed
from brats_jax.data.splits import slice_name
from brats_jax.errors import BratsError
from brats_jax.runtime import devices, distributed
from brats_jax.runtime.console import log_if_slow, print_line
from brats_jax.runtime.signals import Interrupted, StopRequests
from brats_jax.tasks import Batch, Task
from brats_jax.training.checkpointing import Saving, take_snapshot
from brats_jax.training.feed import Feed
from brats_jax.training.metrics_log import ProgressLog, SilentLog
from brats_jax.training.steps import Progress, TrainState, TrainStep, make_train_step
from brats_jax.training.validation import Validation

if TYPE_CHECKING:
    from brats_jax.training.trainer import Stage

# Dispatches that run or wait on the devices. One more than what runs keeps them busy; with many
# a stop request would have to wait for all of them, and each holds its batch in device memory.
IN_FLIGHT = 2


class _Dispatched(NamedTuple):
    """Steps that the devices have been given, and what is to be done when they are done."""

    step: int  # after them
    progress: Progress
    logged: bool
    saved: tuple[TrainState, dict[str, Any]] | None  # snapshot, meta


class _Program:
    """A step that says so if its first call, which compiles it, takes long."""

    def __init__(self, step: TrainStep, title: str) -> None:
        self._step, self._title, self._compiled = step, title, False

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Progress]:
        if self._compiled:
            return self._step(state, batch)
        self._compiled = True
        with log_if_slow(f"{self._title}: compiles its step"):
            return self._step(state, batch)


class Loop:
    """The mutable part of `Stage.run`.

    Several processes run it in step: whatever one of them decides by, all of them have.

    Args:
      stage: what is trained.
      graph, state: the model, and where it stands.
      meta: of the checkpoint that the state comes from.
      saving: of its checkpoints.
      stop: signals to this process.
    """

    def __init__(
        self,
        stage: "Stage",
        graph: nnx.GraphDef,
        state: TrainState,
        meta: dict[str, Any],
        saving: Saving,
        stop: StopRequests,
    ) -> None:
        self.stage, self.state = stage, state
        self.saving = saving
        self.step = int(state.step)
        self.validated_step = int(meta["validated_step"])
        self.best_value = saving.best_value()
        options = stage.options
        resident = None
        if stage.placement == "device":
            size = bytes_needed(stage.store, stage.train_slices) / 1e9
            print_line(f"{stage.title}: copies {size:.2f} GB of slices into device memory")
            resident = DeviceStore(stage.store, stage.train_slices, stage.mesh)

        def compiled(task: Task, graph: nnx.GraphDef) -> _Program:
            return _Program(
                make_train_step(
                    task,
                    graph,
                    stage.optimizer,
                    stage.mesh,
                    resident.arrays if resident else None,
                    options.patch_size,
                    options.deterministic,
                ),
                stage.title,
            )

        self.train_step = compiled(stage.task, graph)
        # In float32 up to that step, see TrainOptions; the parameters are the same in both.
        self.float32_steps = 0
        if stage.task.dtype != jnp.float32:
            self.float32_steps = options.float32_epochs * stage.steps_per_epoch
        if self.step < self.float32_steps:
            in_float32 = stage.task.computing_in(jnp.float32)
            self.first_steps = compiled(in_float32, models.split(in_float32.build(0))[0])
        self.validation = Validation(
            stage.task,
            graph,
            stage.store,
            stage.validation_slices,
            options.validation_batch_size,
            stage.mesh,
        )
        self.feed = Feed(
            stage.store,
            stage.plan,
            options,
            stage.steps_per_epoch,
            self.step,
            meta.get("loader"),
            stage.mesh,
            resident,
        )
        self.stop = distributed.StopAgreement(lambda: stop.signal_number, stage.mesh, IN_FLIGHT)
        self.log: ProgressLog = SilentLog()
        if distributed.is_main():
            self.log = ProgressLog(
                stage.directory, stage.title, stage.total_steps, self.step, self.validated_step
            )
        self._timer = (time.monotonic(), self.step)
        self._in_flight: collections.deque[_Dispatched] = collections.deque()

    def to_the_end(self) -> None:
        """Trains, validates and saves; for what it raises see `Stage.run`."""
        stage = self.stage
        while True:
            at_boundary = self.step % stage.steps_per_epoch == 0
            if at_boundary and self.step > self.validated_step:
                self._end_epoch()
            if self.step >= stage.total_steps:
                break
            self._leave_if_asked()
            if at_boundary:
                zero = devices.put_replicated(np.zeros((), np.float32), stage.mesh)
                self.state = self.state._replace(loss_sum=zero)
            portion = next(self.feed)
            program = self.first_steps if self.step < self.float32_steps else self.train_step
            self.state, progress = program(self.state, portion.batch)
            self.step += portion.steps
            self._keep_in_flight(progress)
            self.log.step(self.step)

    def close(self) -> None:
        """Ends what reads and what writes."""
        self.feed.close()
        self.log.close()

    def _keep_in_flight(self, progress: Progress) -> None:
        """Waits for the dispatch before the last one: the devices always have one more to do."""
        options, within = self.stage.options, self.step % self.stage.steps_per_epoch != 0
        # What falls on the end of an epoch is done there, after validation.
        logged = within and self.step % options.log_every_steps == 0
        saved = None
        if within and self.step % options.save_every_steps == 0:
            saved = (take_snapshot(self.state), self._meta())
        self._in_flight.append(_Dispatched(self.step, progress, logged, saved))
        if len(self._in_flight) > IN_FLIGHT:
            self._finish(self._in_flight.popleft())

    def _finish(self, dispatched: _Dispatched) -> None:
        """Waits until the devices have done it, and writes what there is to write of it."""
        step, progress, logged, saved = dispatched
        jax.block_until_ready(progress)
        if logged or saved:
            self._check_finite(progress.bad_step)
        if logged:
            epoch, done = divmod(step, self.stage.steps_per_epoch)
            loss = float(progress.loss_sum) / done
            self.log.write("step", step, epoch + 1, {"mean_loss_of_epoch_so_far": loss})
            self.saving.check()
        if saved:
            self.saving.save(step, *saved)

    def _settle(self) -> None:
        """Waits for the devices: all that was done is written, and is finite."""
        while self._in_flight:
            self._finish(self._in_flight.popleft())
        self._check_finite(self.state.bad_step)

    def _end_epoch(self) -> None:
        stage, epoch = self.stage, self.step // self.stage.steps_per_epoch
        self._settle()
        train_loss = float(self.state.loss_sum) / stage.steps_per_epoch
        began, first = self._timer
        rate = (self.step - first) * stage.options.batch_size / (time.monotonic() - began)
        values = self._validate()
        value = values[stage.task.metric]
        self.log.write(
            "train",
            self.step,
            epoch,
            {
                "loss": train_loss,
                "learning_rate": float(stage.schedule(self.step - 1)),
                "patches_per_second": round(rate, 2),
            },
        )
        self.log.write("validation", self.step, epoch, values)
        self.log.epoch(
            self.step,
            f"epoch {epoch}/{stage.options.epochs}  loss {train_loss:.4f}  "
            f"validation loss {values['loss']:.4f}  {stage.task.metric} {value:.4f}  "
            f"{rate:.0f} patches/s",
        )
        self.validated_step = self.step
        better = self._is_better(value, values["loss"])
        if better:
            self.best_value = value
        self._save(value if better else None)
        self._timer = (time.monotonic(), self.step)

    def _is_better(self, value: float, loss: float) -> bool:
        if not np.isfinite([value, loss]).all():
            distributed.broadcast_from_main(lambda: self._refuse_validation(value, loss))
        if self.best_value is None:
            return True
        larger = self.stage.task.larger_is_better
        return value > self.best_value if larger else value < self.best_value

    def _refuse_validation(self, value: float, loss: float) -> None:
        raise BratsError(
            f"{self.stage.title}: validation loss {loss}, {self.stage.task.metric} {value} "
            f"at step {self.step}; {self._kept()}"
        )

    def _validate(self) -> dict[str, float]:
        return self.validation.run(self.state.params, self.state.stats, self._leave_if_asked)

    def _check_finite(self, bad_step: jax.Array) -> None:
        bad = int(bad_step)
        if bad >= 0:
            distributed.broadcast_from_main(lambda: self._refuse(bad))

    def _refuse(self, bad: int) -> None:
        stage = self.stage
        size = stage.options.batch_size
        drawn = stage.plan.examples(bad * size, size)
        names = sorted({slice_name(stage.store, int(i)) for i in drawn.slices})
        raise BratsError(
            f"{stage.title}: the training loss or its update is not finite at step {bad} (epoch "
            f"{bad // stage.steps_per_epoch + 1}, slices {', '.join(names[:4])}"
            f"{' ...' if len(names) > 4 else ''}); {self._kept()}; lower the learning rate, "
            "or use --config.dtype=float32"
        )

    def _kept(self) -> str:
        self.saving.wait()
        step, where = self.saving.latest_step(), self.saving.last
        return "nothing was saved yet" if step is None else f"{where / str(step)} is kept"

    def _save(self, best_value: float | None = None) -> None:
        self.saving.save(self.step, take_snapshot(self.state), self._meta(), best_value)

    def _meta(self) -> dict[str, Any]:
        stage = self.stage
        return {
            "model": stage.task.describe(),
            "step": self.step,
            "epoch": self.step // stage.steps_per_epoch,
            "validated_step": self.validated_step,
            "options": dataclasses.asdict(stage.options),
            "record": stage.record,
            "loader": self.feed.position,
        }

    def _leave_if_asked(self) -> None:
        signal_number = self.stop.signal_number()
        if signal_number is None:
            return
        self._settle()
        self._save()
        self.saving.wait()
        print_line(
            f"{self.stage.title}: stopped at step {self.step} of {self.stage.total_steps} and "
            "saved; the same command goes on from there"
        )
        raise Interrupted(signal_number)
