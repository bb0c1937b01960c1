"""The training loop, the same for both stages: cadence, logging, best and last checkpoint, resume.

Everything random is a pure function of (seed, step), and the state that is saved holds
all the rest (the running loss of the epoch too). Killed at any moment and started
again, a stage therefore ends with the bits it would have ended with.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from brats_jax import models
from brats_jax.data.device_store import choose_placement
from brats_jax.data.patches import PatchPlan
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.models import Weights
from brats_jax.runs import checkpoints
from brats_jax.runtime import devices, distributed
from brats_jax.runtime.console import print_line
from brats_jax.runtime.signals import Interrupted, StopRequests
from brats_jax.tasks import Task
from brats_jax.training.checkpointing import Saving
from brats_jax.training.loop import Loop
from brats_jax.training.optim import adam, step_schedule
from brats_jax.training.options import TrainOptions
from brats_jax.training.steps import TrainState

# (parameters, BatchNorm statistics) -> the same, edited: what a stage starts from.
Initialiser = Callable[[Weights, Weights], tuple[Weights, Weights]]


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
        # By one process's memory, lest they compile different programs.
        self.placement = distributed.broadcast_from_main(
            lambda: choose_placement(options.placement, store, train_slices, mesh)
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
        self.title = f"fold {options.fold} {task.name}"

    def fresh_state(self) -> tuple[nnx.GraphDef, TrainState]:
        """The state before the first step, on the devices of this process.

        Of several processes only the first has the edited parameters; `run` takes its state.
        """
        graph, params, stats = models.split(self.task.build(self.options.derived_seed("init")))
        if self._initialise is not None and distributed.is_main():
            params, stats = self._initialise(params, stats)
        state = TrainState(
            params=params,
            stats=stats,
            opt_state=self.optimizer.init(params),
            step=jnp.zeros((), jnp.int32),
            loss_sum=jnp.zeros((), jnp.float32),
            bad_step=jnp.full((), -1, jnp.int32),
        )
        return graph, jax.device_put(state, devices.replicated_sharding(self.mesh.local_mesh))

    def run(self) -> dict[str, Any]:
        """Trains to the end, from the beginning or from the last checkpoint.

        Returns:
          {'metric', 'best', 'best_step', 'steps', 'seconds'}; seconds of this call.

        Raises:
          BratsError: the loss is not finite; no space left; a foreign checkpoint.
          Interrupted: after SIGTERM or Ctrl-C, once the state is saved.
        """
        started = time.monotonic()
        with StopRequests() as stop, contextlib.closing(Saving(self.directory)) as saving:
            graph, state, meta = self._begin(saving)
            with contextlib.closing(Loop(self, graph, state, meta, saving, stop)) as loop:
                loop.to_the_end()
            saving.wait()
            # A signal since the last step: all is saved, and nothing else asks for it here.
            signal_number = distributed.broadcast_from_main(lambda: stop.signal_number)
            if signal_number is not None:
                print_line(f"{self.title}: stopped at its end; the same command goes on from there")
                raise Interrupted(signal_number)
            best_meta = distributed.broadcast_from_main(lambda: checkpoints.read_meta(saving.best))
        return {
            "metric": self.task.metric,
            "best": best_meta["value"],
            "best_step": best_meta["step"],
            "steps": self.total_steps,
            "seconds": round(time.monotonic() - started, 1),
        }

    def _begin(self, saving: Saving) -> tuple[nnx.GraphDef, TrainState, dict[str, Any]]:
        """(graph, state, meta) of the last checkpoint, or of the beginning."""
        begun = [] if distributed.is_main() else [self.fresh_state()]

        def begin() -> dict[str, Any]:
            graph, state = self.fresh_state()
            meta: dict[str, Any] = {"validated_step": 0}
            if saving.latest_step() is not None:
                template = jax.tree.map(_shape_with_sharding, state._asdict())
                restored, meta = checkpoints.read(saving.last, template, self.task.describe())
                state = TrainState(**restored)
                print_line(
                    f"{self.title}: goes on from step {int(state.step)} of {self.total_steps}"
                )
            begun.append((graph, state))
            return meta

        meta = distributed.broadcast_from_main(begin)
        ((graph, state),) = begun
        return graph, devices.replicate_from_main(state, self.mesh), meta


def _shape_with_sharding(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
