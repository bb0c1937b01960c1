"""The training loop, the same for both stages: cadence, logging, best and last checkpoint, resume.

Everything random is a pure function of (seed, step), and the state that is saved holds
all the rest (the running loss of the epoch too). Killed at any moment and started
again, a stage therefore ends with the bits it would have ended with.
"""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from brats_jax import checkpoints, devices, models
from brats_jax.checkpoints import Checkpoints
from brats_jax.data.device_store import DeviceStore, bytes_needed, choose_placement
from brats_jax.data.patches import PatchPlan
from brats_jax.data.splits import slice_name
from brats_jax.data.store import Store
from brats_jax.errors import BratsError
from brats_jax.feeding import Feed
from brats_jax.interruption import Interrupted, StopRequests
from brats_jax.models import Weights
from brats_jax.optim import adam, step_schedule
from brats_jax.progress import ProgressLog, say
from brats_jax.steps import Progress, TrainState, make_train_step
from brats_jax.tasks import Task
from brats_jax.train_options import TrainOptions
from brats_jax.validation import Validation

# (parameters, BatchNorm statistics) -> the same, edited: what a stage starts from.
Initialiser = Callable[[Weights, Weights], tuple[Weights, Weights]]

# Dispatches that run or wait on the devices. One more than what runs keeps them busy; with many
# a stop request would have to wait for all of them, and each holds its batch in device memory.
IN_FLIGHT = 2


class Stage:
    """One training stage in its own folder: <directory>/{last,best}/, metrics.jsonl, tensorboard/.

    Args:
      task: what is learned.
      store: the data.
      train_slices, validation_slices: int[n] global slice indices.
      options: the numbers.
      directory: where everything goes.
      mesh: the devices.
      initialise: edits the fresh parameters before the first step (transfer).
      record: JSON-able facts kept in every checkpoint (configuration, split audit).
    """

    def __init__(
        self,
        task: Task,
        store: Store,
        train_slices: np.ndarray,
        validation_slices: np.ndarray,
        options: TrainOptions,
        directory: Path,
        mesh: Mesh,
        *,
        initialise: Initialiser | None = None,
        record: dict[str, Any] | None = None,
    ) -> None:
        devices.check_batch_size(options.batch_size, mesh)
        devices.check_batch_size(options.validation_batch_size, mesh, "validation_batch_size")
        if len(validation_slices) == 0:
            raise BratsError(f"{store.path}: no slice to validate on; prepare more patients")
        self.task, self.store, self.options = task, store, options
        self.directory, self.mesh = directory, mesh
        self.validation_slices = validation_slices
        self.train_slices = train_slices
        self.record = record or {}
        self.plan = PatchPlan(
            store,
            train_slices,
            patch_size=options.patch_size,
            tumour_probability=options.tumour_probability,
            seed=options.derived_seed("patches"),
        )
        self.placement = choose_placement(options.placement, store, train_slices, mesh)
        self.steps_per_epoch = options.epoch_length(len(self.plan))
        self.total_steps = options.epochs * self.steps_per_epoch
        self.schedule = step_schedule(
            options.learning_rate,
            factor=options.decay_factor,
            every_epochs=options.decay_every_epochs,
            steps_per_epoch=self.steps_per_epoch,
        )
        self.optimizer = adam(self.schedule)
        self._initialise = initialise
        self._title = f"fold {options.fold} {task.name}"

    def fresh_state(self) -> tuple[nnx.GraphDef, TrainState]:
        """The state before the first step."""
        graph, params, stats = models.split(self.task.build(self.options.derived_seed("init")))
        if self._initialise is not None:
            params, stats = self._initialise(params, stats)
        state = TrainState(
            params=params,
            stats=stats,
            opt_state=self.optimizer.init(params),
            step=jnp.zeros((), jnp.int32),
            loss_sum=jnp.zeros((), jnp.float32),
            bad_step=jnp.full((), -1, jnp.int32),
        )
        return graph, jax.device_put(state, devices.replicated(self.mesh))

    def run(self) -> dict[str, Any]:
        """Trains to the end, from the beginning or from the last checkpoint.

        Returns:
          {'metric', 'best', 'best_step', 'steps', 'seconds'}; seconds of this call.

        Raises:
          BratsError: the loss is not finite; no space left; a foreign checkpoint.
          Interrupted: after SIGTERM or Ctrl-C, once the state is saved.
        """
        started = time.monotonic()
        graph, state = self.fresh_state()
        last, best = self.directory / "last", self.directory / "best"
        meta: dict[str, Any] = {"validated_step": 0}
        with (
            StopRequests() as stop,
            contextlib.closing(Checkpoints(last)) as last_saved,
            contextlib.closing(Checkpoints(best)) as best_saved,
        ):
            if last_saved.latest_step() is not None:
                template = jax.tree.map(_shape_with_sharding, state._asdict())
                restored, meta = checkpoints.read(last, template, self.task.describe())
                state = TrainState(**restored)
                say(f"{self._title}: goes on from step {int(state.step)} of {self.total_steps}")
            run = _Run(self, graph, state, meta, (last_saved, best_saved), stop)
            with contextlib.closing(run):
                run.to_the_end()
            best_saved.wait()
            best_meta = checkpoints.read_meta(best)
        return {
            "metric": self.task.metric,
            "best": best_meta["value"],
            "best_step": best_meta["step"],
            "steps": self.total_steps,
            "seconds": round(time.monotonic() - started, 1),
        }


class _Run:
    """The mutable part of `Stage.run`."""

    def __init__(
        self,
        stage: Stage,
        graph: nnx.GraphDef,
        state: TrainState,
        meta: dict[str, Any],
        saved: tuple[Checkpoints, Checkpoints],
        stop: StopRequests,
    ) -> None:
        self.stage, self.state, self.stop = stage, state, stop
        self.last, self.best = saved
        self.step = int(state.step)
        self.validated_step = int(meta["validated_step"])
        self.best_value: float | None = None
        if self.best.latest_step() is not None:
            self.best_value = checkpoints.read_meta(self.best.directory)["value"]
        options = stage.options
        resident = None
        if stage.placement == "device":
            size = bytes_needed(stage.store, stage.train_slices) / 1e9
            say(f"{stage._title}: copies {size:.2f} GB of slices into device memory")
            resident = DeviceStore(stage.store, stage.train_slices, stage.mesh)
        self.train_step = make_train_step(
            stage.task,
            graph,
            stage.optimizer,
            stage.mesh,
            resident.arrays if resident else None,
            options.patch_size,
        )
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
        self.log = ProgressLog(
            stage.directory, stage._title, stage.total_steps, self.step, self.validated_step
        )
        self._timer = (time.monotonic(), self.step)
        self._in_flight: collections.deque[Progress] = collections.deque()
        self._unwritten: tuple[int, Progress] | None = None

    def to_the_end(self) -> None:
        stage = self.stage
        while True:
            at_boundary = self.step % stage.steps_per_epoch == 0
            if at_boundary and self.step > self.validated_step:
                self._end_epoch()
            if self.step >= stage.total_steps:
                break
            self._leave_if_asked()
            if at_boundary:
                self.state = self.state._replace(loss_sum=jnp.zeros_like(self.state.loss_sum))
            portion = next(self.feed)
            self.state, progress = self.train_step(self.state, portion.batch)
            self.step += portion.steps
            self._keep_in_flight(progress)
            self.log.step(self.step)
            # What falls on the end of an epoch is done there, after validation.
            if self.step % stage.steps_per_epoch:
                if self.step % stage.options.log_every_steps == 0:
                    self._log_step(progress)
                if self.step % stage.options.save_every_steps == 0:
                    self._settle()
                    self._save_last()

    def close(self) -> None:
        self.feed.close()
        self.log.close()

    def _keep_in_flight(self, progress: Progress) -> None:
        """Waits for the dispatch before the last one: the devices always have one more to do."""
        self._in_flight.append(progress)
        if len(self._in_flight) > IN_FLIGHT:
            jax.block_until_ready(self._in_flight.popleft())

    def _log_step(self, progress: Progress) -> None:
        # Reading the loss waits for the device: the line is written when there is the next one
        # to write, and by then its number has long been there.
        self._write_step()
        self._unwritten = (self.step, progress)

    def _write_step(self) -> None:
        if self._unwritten is None:
            return
        step, progress = self._unwritten
        self._unwritten = None
        self._check_finite(progress.bad_step)
        epoch, done = divmod(step, self.stage.steps_per_epoch)
        loss = float(progress.loss_sum) / done
        self.log.write("step", step, epoch + 1, {"mean_loss_of_epoch_so_far": loss})

    def _settle(self) -> None:
        """Waits for the devices: all that was done is written, and is finite."""
        self._write_step()
        self._check_finite(self.state.bad_step)
        self._in_flight.clear()

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
        if self._is_better(value, values["loss"]):
            self.best_value = value
            weights = {"params": self.state.params, "stats": self.state.stats}
            self.best.save(self.step, weights, {**self._meta(), "value": value})
            # `last` says that this step is validated: it must not be there before `best` is.
            self.best.wait()
        self._save_last()
        self._timer = (time.monotonic(), self.step)

    def _is_better(self, value: float, loss: float) -> bool:
        if not np.isfinite([value, loss]).all():
            raise BratsError(
                f"{self.stage._title}: validation loss {loss}, {self.stage.task.metric} {value} "
                f"at step {self.step}; {self._kept()}"
            )
        if self.best_value is None:
            return True
        larger = self.stage.task.larger_is_better
        return value > self.best_value if larger else value < self.best_value

    def _validate(self) -> dict[str, float]:
        return self.validation.run(self.state.params, self.state.stats, self._leave_if_asked)

    def _check_finite(self, bad_step: jax.Array) -> None:
        bad = int(bad_step)
        if bad < 0:
            return
        stage = self.stage
        size = stage.options.batch_size
        drawn = stage.plan.examples(bad * size, size)
        names = sorted({slice_name(stage.store, int(i)) for i in drawn.slices})
        raise BratsError(
            f"{stage._title}: the training loss or its update is not finite at step {bad} (epoch "
            f"{bad // stage.steps_per_epoch + 1}, slices {', '.join(names[:4])}"
            f"{' ...' if len(names) > 4 else ''}); {self._kept()}; lower the learning rate, "
            "or use --config.dtype=float32"
        )

    def _kept(self) -> str:
        self.last.wait()
        step = self.last.latest_step()
        where = self.last.directory
        return "nothing was saved yet" if step is None else f"{where / str(step)} is kept"

    def _save_last(self) -> None:
        self.last.save(self.step, self.state._asdict(), self._meta())

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
        if self.stop.signal_number is None:
            return
        self._settle()
        self._save_last()
        self.last.wait()
        say(
            f"{self.stage._title}: stopped at step {self.step} of {self.stage.total_steps} and "
            "saved; the same command goes on from there"
        )
        raise Interrupted(self.stop.signal_number)


def _shape_with_sharding(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
