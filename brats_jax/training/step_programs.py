"""The compiled training steps of a stage, by the number of the step."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from brats_jax import models
from brats_jax.data.device_store import DeviceStore
from brats_jax.runtime import devices
from brats_jax.runtime.console import log_if_slow
from brats_jax.tasks import Batch, Task
from brats_jax.training.options import TrainOptions
from brats_jax.training.steps import StepProgress, TrainState, make_train_step

Step = Callable[[TrainState, Batch], tuple[TrainState, StepProgress]]


class StepPrograms:
    """The training step in the task's dtype, and in float32 for the first epochs of a stage.

    Training in bfloat16 starts in float32 (see `TrainOptions.float32_epochs`); the parameters are
    float32 in both.

    Args:
      task, graph: the task and its network.
      optimizer, options: of the stage.
      steps_per_epoch: optimiser steps in an epoch.
      first: the first step that will run.
      mesh: the devices.
      resident: slices in device memory to cut patches from; None: patches are cut on the host.
      title: of the stage, for the terminal.

    Attributes:
      step: the step in the task's dtype.
      float32_steps: number of first steps in float32.
    """

    def __init__(
        self,
        task: Task,
        graph: nnx.GraphDef,
        optimizer: optax.GradientTransformation,
        options: TrainOptions,
        steps_per_epoch: int,
        first: int,
        mesh: Mesh,
        resident: DeviceStore | None,
        title: str,
    ) -> None:
        self._optimizer, self._options = optimizer, options
        self._mesh, self._resident, self._title = mesh, resident, title
        self.step = self._compiled(task, graph)
        self.float32_steps = 0
        if task.dtype != jnp.float32:
            self.float32_steps = options.float32_epochs * steps_per_epoch
        if first < self.float32_steps:
            in_float32 = task.computing_in(jnp.float32)
            float32_graph = models.abstract(lambda: in_float32.build_to_train(0))[0]
            self._float32_step = self._compiled(in_float32, float32_graph)

    def at(self, number: int) -> Step:
        """The compiled step that runs as step `number`."""
        return self._float32_step if number < self.float32_steps else self.step

    def _compiled(self, task: Task, graph: nnx.GraphDef) -> Step:
        """A step whose first call, which compiles, prints a line if it is slow."""
        step = make_train_step(
            task,
            graph,
            self._optimizer,
            self._mesh,
            self._resident.arrays if self._resident else None,
            self._options.patch_size,
            devices.compiler_options(self._mesh, deterministic=self._options.deterministic),
            **self._options.of_step,
        )
        compiled = False

        def call(state: TrainState, batch: Batch) -> tuple[TrainState, StepProgress]:
            nonlocal compiled
            if compiled:
                return step(state, batch)
            compiled = True
            with log_if_slow(f"{self._title}: compiling the training step"):
                return step(state, batch)

        return call
