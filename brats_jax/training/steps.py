"""The compiled training and validation steps, and the training state."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh

from brats_jax import models
from brats_jax.data.device_store import DeviceSlices, gather
from brats_jax.models import Kernels, Weights
from brats_jax.runtime import devices
from brats_jax.tasks import Batch, Task
from brats_jax.training.averaging import Network, averaged
from brats_jax.training.forward import forward_of, tree_of, vector_of


class TrainState(NamedTuple):
    """Everything that a step changes: a pytree of arrays, replicated over the devices.

    Attributes:
      params, stats: parameters and BatchNorm statistics (see `models.split`).
      opt_state: state of the optimiser.
      step: int32, number of steps done.
      loss_sum: float32, sum of the losses since the epoch began.
      bad_step: int32, the first step whose loss or update was not finite, or -1. An overflow of
        the update alone may be attributed to the step after it (see `_vectors`).
      average: moving average of parameters and statistics (see `averaging`), or None.
    """

    params: Weights
    stats: Weights
    opt_state: Any
    step: jax.Array
    loss_sum: jax.Array
    bad_step: jax.Array
    average: Network | None = None

    @property
    def parts(self) -> dict[str, Any]:
        """The state by name, as a checkpoint holds it: without an average where there is none."""
        return {name: part for name, part in self._asdict().items() if part is not None}

    @property
    def network(self) -> Network:
        """The network to validate and to keep: the average, or the network of the last step.

        Without the parts that only the loss needs.
        """
        network = self.average or {"params": self.params, "stats": self.stats}
        return {**network, "params": models.without_auxiliary(network["params"])}


class StepProgress(NamedTuple):
    """The part of a state that the host reads; not donated, so readable while later steps run."""

    loss_sum: jax.Array
    bad_step: jax.Array


class TrainStep:
    """One or several compiled optimiser steps in one dispatch (see `make_train_step`).

    Args:
      run: compiled (state, batch, slices in device memory or None) -> (state, progress).
      cut: compiled (slices in device memory, positions) -> batch of patches.
      resident: slices in device memory, or None.
    """

    def __init__(self, run: Any, cut: Any, resident: DeviceSlices | None) -> None:
        self._run, self._cut, self._resident = run, cut, resident

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, StepProgress]:
        if self._resident is None or batch["seed"].ndim > 1:
            return self._run(state, batch, self._resident)
        # The patches are cut by a separate program, so that the step is the same program as with
        # patches cut on the host: XLA may round a program that also cuts differently.
        return self._run(state, self._cut(self._resident, batch), None)

    def lower(self, state: Any, batch: Any) -> Any:
        """Lowers the program of a dispatch, cutting included, for arrays or their shapes."""
        return self._run.lower(state, batch, self._resident)


def make_train_step(
    task: Task,
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    resident: DeviceSlices | None = None,
    patch_size: int = 0,
    compiler_options: dict[str, Any] | None = None,
    ema: float = 0.0,
    norm_group: int = 0,
    gradient_sum: str = "auto",
) -> TrainStep:
    """Compiles the optimiser step.

    Args:
      task, graph: the task and its network.
      optimizer: the optimiser.
      mesh: the devices.
      resident: slices in device memory to cut patches from; the batch then holds positions
        (`DeviceStore.positions`). None: the batch holds the patches.
      patch_size: height and width of patches to cut from `resident`.
      compiler_options: options of XLA for the step; None: those that give the same bits in every
        run, also on a GPU (see `devices.compiler_options`).
      ema: decay of the moving average of a state that has one.
      norm_group, gradient_sum: see `forward.forward_of`.

    Returns:
      (state, batch) -> (state, progress). The given state is donated. A batch [K, B, ...] is
      K steps in one dispatch, a `lax.scan`.
    """
    forward = forward_of(graph, mesh, norm_group, gradient_sum)
    joins_stats = mesh.size > 1 and (norm_group > 0 or gradient_sum != "auto")

    def train_step(
        state: TrainState, kernels: Kernels, batch: Batch, resident: DeviceSlices | None
    ) -> TrainState:
        if resident is not None:
            batch = gather(resident, batch, patch_size, mesh)
        x, target = task.prepare(batch, training=True)

        def loss_of(params: Weights, kernels: Kernels) -> tuple[jax.Array, Weights]:
            weights = models.with_kernels(params, kernels)
            output, stats = forward(weights, state.stats, x)
            return task.loss(output, target), stats

        (loss, stats), (gradients, kernel_gradients) = jax.value_and_grad(
            loss_of, argnums=(0, 1), has_aux=True
        )(state.params, kernels)
        gradients = models.with_kernels(gradients, kernel_gradients, jnp.float32)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        finite = jnp.isfinite(loss) & _all_finite(_vectors(gradients))
        params, average = optax.apply_updates(state.params, updates), state.average
        if average is not None:
            average = averaged(average, {"params": params, "stats": stats}, state.step + 1, ema)
        return TrainState(
            params=params,
            stats=stats,
            opt_state=opt_state,
            step=state.step + 1,
            loss_sum=state.loss_sum + loss,
            bad_step=_first_bad(state.bad_step, finite, state.step),
            average=average,
        )

    def run(
        state: TrainState, batch: Batch, resident: DeviceSlices | None
    ) -> tuple[TrainState, StepProgress]:
        def rounded(params: Weights) -> Kernels:
            return models.rounded_kernels(params, task.dtype)

        # Devices exchange the running statistics as one vector (`forward.forward_of`). The scan
        # carries this vector from step to step, which saves two kernels for each layer.
        def with_stats_joined(state: Any) -> Any:
            return state._replace(stats=vector_of(state.stats)) if joins_stats else state

        def with_stats_divided(carried: Any) -> Any:
            if not joins_stats:
                return carried
            return carried._replace(stats=tree_of(carried.stats, state.stats))

        def body(carry: tuple[Any, Kernels], batch: Batch) -> tuple[Any, None]:
            before, kernels = carry
            after = train_step(with_stats_divided(before), kernels, batch, resident)
            return (with_stats_joined(after), rounded(after.params)), None

        if batch["seed"].ndim == 1:
            state = train_step(state, rounded(state.params), batch, resident)
        else:
            first = (with_stats_joined(state), rounded(state.params))
            (last, _), _ = lax.scan(body, first, batch)
            state = with_stats_divided(last)
        finite = _all_finite(state.params)
        state = state._replace(bad_step=_first_bad(state.bad_step, finite, state.step - 1))
        return state, StepProgress(state.loss_sum, state.bad_step)

    if compiler_options is None:
        compiler_options = devices.compiler_options(mesh, deterministic=True)
    compiled = jax.jit(
        run,
        donate_argnums=0,
        out_shardings=devices.replicated_sharding(mesh),
        compiler_options=compiler_options,
    )
    cut = jax.jit(
        lambda resident, batch: gather(resident, batch, patch_size, mesh),
        out_shardings=devices.batch_sharding(mesh),  # as of batches from the host
    )
    return TrainStep(compiled, cut, resident)


def _first_bad(bad_step: jax.Array, finite: jax.Array, step: jax.Array) -> jax.Array:
    return jnp.where((bad_step < 0) & ~finite, step, bad_step)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.isfinite(optax.global_norm(tree))


def _vectors(gradients: Weights) -> list[jax.Array]:
    """The gradients of normalisation layers and biases.

    A NaN or overflow in the backward pass reaches these gradients too, and checking them avoids
    a pass over all parameters in every step. An overflow in the gradient of a kernel alone shows
    in the next loss or in the parameters at the end of the dispatch.
    """
    return [leaf for leaf in jax.tree.leaves(gradients) if leaf.ndim == 1]


def make_validation_step(
    task: Task, graph: nnx.GraphDef, mesh: Mesh, batch_size: int | None = None
) -> Callable[[Weights, Weights, Batch], dict[str, jax.Array]]:
    """Compiles the forward pass over a batch of whole slices.

    Args:
      task, graph: the task and its network.
      mesh: the devices.
      batch_size: the loss is that of the first so many slices; None: of all. Further ones fill the
        batch up to a multiple of the number of devices, on which a loss must not depend.

    Returns:
      (params, stats, batch) -> the scalar 'loss' and `Task.validate`, on every device.
    """

    @functools.partial(
        jax.jit,
        out_shardings=devices.replicated_sharding(mesh),
        compiler_options=devices.compiler_options(mesh, deterministic=True),
    )
    def validation_step(params: Weights, stats: Weights, batch: Batch) -> dict[str, jax.Array]:
        x, target = task.prepare(batch, training=False)
        output, _ = models.apply(graph, params, stats, x, train=False)
        counted = (output, target)
        if batch_size is not None and batch_size < len(output):
            counted = jax.tree.map(lambda array: array[:batch_size], counted)
        return {"loss": task.loss(*counted), **task.validate(output, target)}

    return validation_step
