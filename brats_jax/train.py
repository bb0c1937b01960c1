"""The training loop, the same for both stages: cadence, logging, best and last checkpoint, resume.

Everything random is a pure function of (seed, step), and the state that is saved holds
all the rest (the running loss of the epoch too). Killed at any moment and started
again, a stage therefore ends with the bits it would have ended with.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from brats_jax import checkpoints, devices, models
from brats_jax.checkpoints import Checkpoints
from brats_jax.data.patches import PatchPlan
from brats_jax.data.pipeline import TrainingBatches, full_slices
from brats_jax.data.splits import slice_name
from brats_jax.data.store import Store
from brats_jax.errors import BratsError
from brats_jax.interruption import Interrupted, StopRequests
from brats_jax.models import Weights
from brats_jax.optim import adam, step_schedule
from brats_jax.progress import ProgressLog, say
from brats_jax.steps import TrainState, make_train_step, make_validation_step
from brats_jax.tasks import Task

# (parameters, BatchNorm statistics) -> the same, edited: what a stage starts from.
Initialiser = Callable[[Weights, Weights], tuple[Weights, Weights]]


@dataclass(frozen=True)
class TrainOptions:
    """Numbers of a training stage; the defaults are the paper's.

    steps_per_epoch 0 means one pass over the training slices. purpose and fold keep
    the random numbers of stages and folds apart.
    """

    epochs: int = 30
    steps_per_epoch: int = 0
    batch_size: int = 16
    learning_rate: float = 1e-4
    decay_factor: float = 0.5
    decay_every_epochs: int = 10
    patch_size: int = 128
    tumour_probability: float = 0.5
    validation_batch_size: int = 16
    save_every_steps: int = 1000
    log_every_steps: int = 50
    seed: int = 0
    purpose: int = 0
    fold: int = 0
    workers: int = 0
    threads: int = 2

    def derived_seed(self, what: str) -> int:
        """A 32-bit seed for one use ('init', 'patches') in this stage and fold."""
        entropy = [self.seed, self.purpose, self.fold, *what.encode()]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def epoch_length(self, slices: int) -> int:
        """Steps in an epoch over so many slices."""
        return self.steps_per_epoch or max(1, slices // self.batch_size)


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
        self.record = record or {}
        self.plan = PatchPlan(
            store,
            train_slices,
            patch_size=options.patch_size,
            tumour_probability=options.tumour_probability,
            seed=options.derived_seed("patches"),
        )
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
        self.train_step = make_train_step(stage.task, graph, stage.optimizer, stage.mesh)
        self.validation_step = make_validation_step(stage.task, graph)
        self.batches = TrainingBatches(
            stage.store,
            stage.plan,
            patch_size=options.patch_size,
            batch_size=options.batch_size,
            steps=stage.total_steps,
            workers=options.workers,
            threads=options.threads,
        )
        if "loader" in meta:
            self.batches.set_state(meta["loader"], self.step)
        self.log = ProgressLog(
            stage.directory, stage._title, stage.total_steps, self.step, self.validated_step
        )
        self._timer = (time.monotonic(), self.step)

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
            batch = devices.put_batch(next(self.batches), stage.mesh)
            self.state = self.train_step(self.state, batch)
            self.step += 1
            self.log.step(self.step)
            # What falls on the end of an epoch is done there, after validation.
            if self.step % stage.steps_per_epoch:
                if self.step % stage.options.log_every_steps == 0:
                    self._log_step()
                if self.step % stage.options.save_every_steps == 0:
                    self._check_finite()
                    self._save_last()

    def close(self) -> None:
        self.batches.close()
        self.log.close()

    def _log_step(self) -> None:
        # Reading the loss waits for the device, which is why it is not done every step.
        self._check_finite()
        epoch, done = divmod(self.step, self.stage.steps_per_epoch)
        loss = float(self.state.loss_sum) / done
        self.log.write("step", self.step, epoch + 1, {"mean_loss_of_epoch_so_far": loss})

    def _end_epoch(self) -> None:
        stage, epoch = self.stage, self.step // self.stage.steps_per_epoch
        self._check_finite()
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
        stage = self.stage
        results: list[dict[str, jax.Array]] = []
        valid: list[np.ndarray] = []
        for batch in full_slices(
            stage.store, stage.validation_slices, stage.options.validation_batch_size
        ):
            self._leave_if_asked()
            valid.append(batch.pop("valid"))
            batch.pop("index")
            device_batch = devices.put_batch(batch, stage.mesh)
            results.append(self.validation_step(self.state.params, self.state.stats, device_batch))
        host = jax.device_get(results)
        weights = np.array([v.sum() for v in valid], np.float64)
        keep = np.concatenate(valid)
        statistics = {
            name: np.concatenate([r[name] for r in host])[keep]
            for name in host[0]
            if name != "loss"
        }
        loss = float(np.average([r["loss"] for r in host], weights=weights))
        return {"loss": loss, **stage.task.summarise(statistics)}

    def _check_finite(self) -> None:
        bad = int(self.state.bad_step)
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
            "loader": self.batches.get_state(),
        }

    def _leave_if_asked(self) -> None:
        if self.stop.signal_number is None:
            return
        self._check_finite()
        self._save_last()
        self.last.wait()
        say(
            f"{self.stage._title}: stopped at step {self.step} of {self.stage.total_steps} and "
            "saved; the same command goes on from there"
        )
        raise Interrupted(self.stop.signal_number)


def _shape_with_sharding(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
