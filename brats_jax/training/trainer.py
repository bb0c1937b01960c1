"""The training loop of a stage: steps, validation, logging, checkpoints, resuming.

All randomness is a pure function of (seed, step), and a checkpoint holds everything else,
including the running loss of the epoch. A stage that was killed at any moment and started again
therefore ends with the same bits.
"""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from brats_jax import models
from brats_jax.data.device_store import DeviceStore, bytes_needed, choose_placement
from brats_jax.data.folds import fold_title
from brats_jax.data.patches import PatchPlan
from brats_jax.data.slice_facts import SliceFacts
from brats_jax.data.splits import slice_name
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.models import Weights
from brats_jax.runs import checkpoints
from brats_jax.runs.checkpoints import CheckpointMeta
from brats_jax.runs.documents import StageResult, TrainingFacts
from brats_jax.runs.folder import StageFolder
from brats_jax.runs.metrics_jsonl import read_metrics
from brats_jax.runtime import devices, distributed
from brats_jax.runtime.console import print_line
from brats_jax.runtime.signals import Interrupted, StopRequests
from brats_jax.tasks import Task
from brats_jax.training.checkpointing import StageCheckpoints, restore_last, take_snapshot
from brats_jax.training.feed import Feed
from brats_jax.training.metrics_log import MetricsLog
from brats_jax.training.optim import optimizer_of, schedule_of
from brats_jax.training.options import TrainOptions
from brats_jax.training.selection import Selection
from brats_jax.training.step_programs import StepPrograms
from brats_jax.training.steps import StepProgress, TrainState
from brats_jax.training.tracking import StageTracking
from brats_jax.training.validation import Validation

# (parameters, BatchNorm statistics) -> the same, edited before the first step (transfer).
Initialiser = Callable[[Weights, Weights], tuple[Weights, Weights]]

# Dispatches that run or wait on the devices. One besides the running one keeps the devices busy;
# each more would delay a stop request and hold its batch in device memory.
IN_FLIGHT = 2


class Stage:
    """One training stage in its own folder: last/, best/, metrics.jsonl, tensorboard/.

    Several processes run it in step: they make every decision from values that all of them have.

    Args:
      task: the task to learn.
      store: the data.
      train_slices, validation_slices: int[n] global slice indices.
      options: the settings.
      folder: the stage's folder.
      mesh: the devices.
      initialise: edits the initial parameters before the first step (transfer).
      transferred: parameters that are frozen or slowed down (`transfer.transfer_mask`), or None.
      record: facts on the data, which every checkpoint holds.
      splits: `Splits.digest`, which every checkpoint holds too; '' for none.
      dispatch_steps: steps in a full dispatch, also on CPU; None: `feed.steps_per_dispatch`.
      validation_store: the store to read validation slices from; None: `store`. With several planes
        it is the store of the first plane, and `store` holds its slices before those of the others.

    Raises:
      BratsError: options that do not fit the devices or the data; nothing to validate on.
    """

    def __init__(
        self,
        task: Task,
        store: Store,
        train_slices: np.ndarray,
        validation_slices: np.ndarray,
        options: TrainOptions,
        folder: StageFolder,
        mesh: Mesh,
        *,
        initialise: Initialiser | None = None,
        transferred: Weights | None = None,
        record: TrainingFacts | None = None,
        splits: str = "",
        dispatch_steps: int | None = None,
        validation_store: Store | None = None,
    ) -> None:
        devices.check_batch_size(options.batch_size, mesh)
        if len(validation_slices) == 0:
            raise BratsError(f"{store.path}: no slice to validate on; prepare more patients")
        self.task, self.store, self.options = task, store, options
        self.train_slices, self.validation_slices = train_slices, validation_slices
        self.folder, self.mesh = folder, mesh
        self.initialise, self.record = initialise, record or TrainingFacts()
        self.digests = {checkpoints.SPLITS: splits} if splits else {}
        self.dispatch_steps = dispatch_steps
        self.title = f"{fold_title(options.fold)} {task.name}"
        # Donors (`data.slice_facts`) are drawn from the training slices, in validation too: no
        # person of the validation set is a donor.
        self.facts = SliceFacts(store, task.slice_facts, train_slices, task.context)
        self.validation_store, self.validation_facts = store, self.facts
        if validation_store is not None:
            donors = train_slices[train_slices < validation_store.num_slices]
            self.validation_store = validation_store
            self.validation_facts = SliceFacts(
                validation_store, task.slice_facts, donors, task.context
            )
        self.read_slices = self.facts.with_neighbours(train_slices)
        self.plan = PatchPlan(
            store,
            train_slices,
            patch_size=options.patch_size,
            tumour_probability=options.tumour_probability,
            seed=options.derived_seed("patches"),
            sampling=options.sampling,
            facts=self.facts,
        )
        # The main process decides by its memory: all processes must compile the same program.
        self.placement = distributed.broadcast_from_main(
            lambda: choose_placement(options.placement, store, self.read_slices, mesh)
        )
        self.steps_per_epoch = options.epoch_length(len(self.plan))
        self.total_steps = options.epochs * self.steps_per_epoch
        self.selection = Selection(task.metric, task.larger_is_better, options.keep_last)
        self.schedule = schedule_of(options, self.steps_per_epoch)
        self.optimizer = optimizer_of(options, self.schedule, self.steps_per_epoch, transferred)

    def run(self, tracking: StageTracking | None = None) -> StageResult:
        """Trains from the beginning or the last checkpoint to the end; `tracking` gets the log.

        Returns:
          The result; its seconds are those of this call.

        Raises:
          BratsError: the loss is not finite; no space left; a checkpoint of another model.
          Interrupted: after SIGTERM or Ctrl-C, once the state is saved.
        """
        started, self.tracking = time.monotonic(), tracking
        with (
            StopRequests() as stop,
            contextlib.closing(StageCheckpoints(self.folder)) as self.checkpoints,
        ):
            self._prepare(stop)
            with contextlib.closing(self.log), contextlib.closing(self.feed):
                self._train()
            self.checkpoints.finish()
            # A signal after the last step: everything is saved, and no later check sees it.
            signal_number = distributed.broadcast_from_main(lambda: stop.signal_number)
            if signal_number is not None:
                print_line(
                    f"{self.title}: stopped at its end; the same command continues from there"
                )
                raise Interrupted(signal_number)
            best = distributed.broadcast_from_main(
                lambda: checkpoints.read_meta(self.checkpoints.best).to_json()
            )
        return StageResult(
            metric=self.task.metric,
            best=best["value"],
            best_step=best["step"],
            steps=self.total_steps,
            seconds=round(time.monotonic() - started, 1),
        )

    def initial_state(self) -> tuple[nnx.GraphDef, TrainState]:
        """The network and the state before the first step, on the devices of this process.

        Of several processes only the main one applies `initialise`; `run` copies its state.
        """
        network = self.task.build_to_train(self.options.derived_seed("init"))
        graph, params, stats = models.split(network)
        if self.initialise is not None and distributed.is_main():
            params, stats = self.initialise(params, stats)
        average = {"params": params, "stats": stats} if self.options.ema else None
        state = TrainState(
            params=params,
            stats=stats,
            # In one program instead of one for every shape.
            opt_state=jax.jit(self.optimizer.init)(params),
            step=jnp.zeros((), jnp.int32),
            loss_sum=jnp.zeros((), jnp.float32),
            bad_step=jnp.full((), -1, jnp.int32),
            # A copy: a step is given the memory of its state.
            average=jax.tree.map(jnp.copy, average),
        )
        return graph, jax.device_put(state, devices.replicated_sharding(self.mesh.local_mesh))

    def _prepare(self, stop: StopRequests) -> None:
        """Makes the state, from the last checkpoint if there is one, and all that a run needs."""
        graph, self.state, meta = self._restore()
        self.step = int(self.state.step)
        self.validated_step = 0
        if meta is not None:
            self.validated_step = meta.validated_step or 0
            validations = self.selection.best_so_far(read_metrics(self.folder.metrics_jsonl))
            self.checkpoints.repair_best(self.state, meta, validations)
        self.best_value = self.checkpoints.best_value()
        resident = None
        if self.placement == "device":
            size = bytes_needed(self.store, self.read_slices) / 1e9
            print_line(f"{self.title}: copies {size:.2f} GB of slices into device memory")
            resident = DeviceStore(self.store, self.read_slices, self.mesh)
        self.programs = StepPrograms(
            self.task,
            graph,
            self.optimizer,
            self.options,
            self.steps_per_epoch,
            self.step,
            self.mesh,
            resident,
            self.title,
        )
        validated = graph
        if models.AUXILIARY in self.state.params:  # `TrainState.network` leaves them out
            validated = models.abstract(lambda: self.task.build(0))[0]
        self.validation = Validation(
            self.task,
            validated,
            self.validation_store,
            self.validation_slices,
            self.options.validation_batch_size,
            self.mesh,
            self.validation_facts,
        )
        self.feed = Feed(
            self.store,
            self.plan,
            self.options,
            self.steps_per_epoch,
            self.step,
            meta.loader if meta else None,
            self.mesh,
            resident,
            dispatch_steps=self.dispatch_steps,
        )
        self.stop = distributed.StopAgreement(lambda: stop.signal_number, self.mesh, IN_FLIGHT)
        self.log = MetricsLog(
            self.folder, self.title, self.total_steps, self.step, self.validated_step, self.tracking
        )
        # Arguments of `_finish` for each dispatch in flight.
        self.in_flight: collections.deque[tuple[Any, ...]] = collections.deque()
        self.epoch_start = (time.monotonic(), self.step)

    def _restore(self) -> tuple[nnx.GraphDef, TrainState, CheckpointMeta | None]:
        """(graph, state, meta) of the last checkpoint, or of the beginning without meta.

        The main process reads the checkpoint; the others make a state to receive its values.
        """
        made = [] if distributed.is_main() else [self.initial_state()]

        def restore() -> dict[str, Any] | None:
            graph, state = self.initial_state()
            meta = None
            if self.checkpoints.latest_step() is not None:
                state, meta = restore_last(self.folder, state, self.task.describe())
                print_line(
                    f"{self.title}: continues from step {int(state.step)} of {self.total_steps}"
                )
            made.append((graph, state))
            return meta.to_json() if meta else None

        document = distributed.broadcast_from_main(restore)
        meta = CheckpointMeta.from_json(document) if document else None
        ((graph, state),) = made
        return graph, devices.replicate_from_main(state, self.mesh), meta

    def _train(self) -> None:
        """The loop: validates and saves at the end of every epoch, and stops when asked to."""
        while True:
            at_boundary = self.step % self.steps_per_epoch == 0
            if at_boundary and self.step > self.validated_step:
                self._end_epoch()
            if self.step >= self.total_steps:
                break
            self._stop_if_asked()
            if at_boundary:
                zero = devices.put_replicated(np.zeros((), np.float32), self.mesh)
                self.state = self.state._replace(loss_sum=zero)
            portion = next(self.feed)
            run = self.programs.at(self.step)
            self.state, progress = run(self.state, portion.batch)
            self.step += portion.steps
            self._follow(progress)
            self.log.step(self.step)

    def _follow(self, progress: StepProgress) -> None:
        """Queues what to log and save after this dispatch; finishes the one `IN_FLIGHT` before."""
        # At the end of an epoch, `_end_epoch` logs and saves after validation.
        within_epoch = self.step % self.steps_per_epoch != 0
        logged = within_epoch and self.step % self.options.log_every_steps == 0
        saved = None
        if within_epoch and self.step % self.options.save_every_steps == 0:
            saved = (take_snapshot(self.state), self._meta())
        self.in_flight.append((self.step, progress, logged, saved))
        if len(self.in_flight) > IN_FLIGHT:
            self._finish(*self.in_flight.popleft())

    def _finish(
        self,
        step: int,
        progress: StepProgress,
        logged: bool,
        saved: tuple[TrainState, CheckpointMeta] | None,
    ) -> None:
        """Waits until the devices have done a dispatch; logs and saves what `_follow` queued."""
        jax.block_until_ready(progress)
        if logged or saved:
            self._check_finite(progress.bad_step)
        if logged:
            epoch, done = divmod(step, self.steps_per_epoch)
            loss = float(progress.loss_sum) / done
            self.log.write("step", step, epoch + 1, {"mean_loss_of_epoch_so_far": loss})
            self.checkpoints.check()
        if saved:
            self.checkpoints.save(step, *saved)

    def _finish_all(self) -> None:
        """Waits for the devices; afterwards all steps are logged, and the state is finite."""
        while self.in_flight:
            self._finish(*self.in_flight.popleft())
        self._check_finite(self.state.bad_step)

    def _end_epoch(self) -> None:
        """Validates, logs the epoch, and saves `last` and, if it is the best so far, `best`."""
        epoch = self.step // self.steps_per_epoch
        self._finish_all()
        train_loss = float(self.state.loss_sum) / self.steps_per_epoch
        start, first = self.epoch_start
        rate = (self.step - first) * self.options.batch_size / (time.monotonic() - start)
        # A stop during validation leaves only the validation to do: no patch was trained here.
        speed = {"patches_per_second": round(rate, 2)} if rate else {}
        network = self.state.network
        values = self.validation.run(network["params"], network["stats"], self._stop_if_asked)
        loss, value = values["loss"], values[self.task.metric]
        self.log.write(
            "train",
            self.step,
            epoch,
            {
                "loss": train_loss,
                "learning_rate": float(self.schedule(self.step - 1)),
                **speed,
            },
        )
        self.log.write("validation", self.step, epoch, values)
        self.log.epoch(
            self.step,
            f"epoch {epoch}/{self.options.epochs}  loss {train_loss:.4f}  "
            f"validation loss {loss:.4f}  {self.task.metric} {value:.4f}"
            + (f"  {rate:.0f} patches/s" if speed else ""),
        )
        if not np.isfinite([loss, value]).all():
            distributed.broadcast_from_main(lambda: self._refuse_validation(loss, value))
        self.validated_step = self.step
        better = self.selection.improves(value, self.best_value)
        if better:
            self.best_value = value
        self._save(value if better else None)
        self.epoch_start = (time.monotonic(), self.step)

    def _save(self, best_value: float | None = None) -> None:
        self.checkpoints.save(self.step, take_snapshot(self.state), self._meta(), best_value)

    def _meta(self) -> CheckpointMeta:
        return CheckpointMeta(
            model=self.task.describe(),
            step=self.step,
            epoch=self.step // self.steps_per_epoch,
            validated_step=self.validated_step,
            options=dataclasses.asdict(self.options),
            record=self.record,
            loader=self.feed.position,
            sha256=self.digests,
        )

    def _stop_if_asked(self) -> None:
        """After SIGTERM or Ctrl-C: saves and raises Interrupted."""
        signal_number = self.stop.signal_number()
        if signal_number is None:
            return
        self._finish_all()
        self._save()
        self.checkpoints.wait()
        print_line(
            f"{self.title}: stopped at step {self.step} of {self.total_steps} and "
            "saved; the same command continues from there"
        )
        raise Interrupted(signal_number)

    def _check_finite(self, bad_step: jax.Array) -> None:
        """Raises BratsError if a step has produced a loss or update that is not finite."""
        bad = int(bad_step)
        if bad >= 0:
            distributed.broadcast_from_main(lambda: self._refuse_step(bad))

    def _refuse_step(self, bad: int) -> None:
        size = self.options.batch_size
        drawn = self.plan.examples(bad * size, size)
        names = sorted({slice_name(self.store, int(i)) for i in drawn.slices})
        raise BratsError(
            f"{self.title}: the training loss or its update is not finite at step {bad} (epoch "
            f"{bad // self.steps_per_epoch + 1}, slices {', '.join(names[:4])}"
            f"{' ...' if len(names) > 4 else ''}); {self._kept()}; lower the learning rate, "
            "or use --config.dtype=float32"
        )

    def _refuse_validation(self, loss: float, value: float) -> None:
        raise BratsError(
            f"{self.title}: validation loss {loss}, {self.task.metric} {value} "
            f"at step {self.step}; {self._kept()}"
        )

    def _kept(self) -> str:
        """The newest checkpoint, for an error message."""
        self.checkpoints.wait()
        step, last = self.checkpoints.latest_step(), self.checkpoints.last
        return "nothing was saved yet" if step is None else f"{last / str(step)} is kept"
