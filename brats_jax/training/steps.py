"""The compiled steps of training, and the state they change."""

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


class TrainState(NamedTuple):
    """All that a step changes; a pytree of arrays, replicated over the devices.

    Attributes:
      params, stats: the model's weights and BatchNorm statistics (see models.split).
      opt_state: the optimiser's.
      step: int32, optimiser steps done.
      loss_sum: float32, summed loss of the steps since the epoch began.
      bad_step: int32, the first step whose loss or update was not finite, or -1. An overflow in
        the update alone may be told of the step after it (see `_vectors`).
    """

    params: Weights
    stats: Weights
    opt_state: Any
    step: jax.Array
    loss_sum: jax.Array
    bad_step: jax.Array


class Progress(NamedTuple):
    """What the host reads of a state; not donated, so it can be read while later steps run."""

    loss_sum: jax.Array
    bad_step: jax.Array


class TrainStep:
    """The compiled optimiser step, or several of them in one dispatch (see make_train_step).

    Args:
      run: (state, batch, slices in device memory or None), compiled.
      cut: (slices, numbers) to the batch that they are of, compiled.
      resident: slices in device memory, or None.
    """

    def __init__(self, run: Any, cut: Any, resident: DeviceSlices | None) -> None:
        self._run, self._cut, self._resident = run, cut, resident

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Progress]:
        if self._resident is None or batch["seed"].ndim > 1:
            return self._run(state, batch, self._resident)
        # Cut by a program of its own, so that the step is the one that is given patches: of
        # another program, the cutting in it, XLA might round the last digit otherwise.
        return self._run(state, self._cut(self._resident, batch), None)

    def lower(self, state: Any, batch: Any) -> Any:
        """The one program, cutting included, traced for arrays or their shapes."""
        return self._run.lower(state, batch, self._resident)


def make_train_step(
    task: Task,
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    resident: DeviceSlices | None = None,
    patch_size: int = 0,
    deterministic: bool = True,
) -> TrainStep:
    """The compiled optimiser step, or several of them; the state it is given is donated.

    Args:
      task, graph, optimizer: what is learned, and how.
      mesh: the devices.
      resident: slices in device memory, to cut patches of `patch_size` from; the batch then
        holds the numbers of `DeviceStore.numbers`. None: the batch holds the patches.
      deterministic: the same bits in every run, on a GPU too (see devices.compiler_options).

    Returns:
      f(state, batch). A batch with a leading axis, [K, B, ...], is K steps in one dispatch,
      a `lax.scan`.
    """

    def train_step(
        state: TrainState, kernels: Kernels, batch: Batch, resident: DeviceSlices | None
    ) -> TrainState:
        if resident is not None:
            batch = gather(resident, batch, patch_size, mesh)
        x, target = task.prepare(batch, training=True)

        def loss_of(params: Weights, kernels: Kernels) -> tuple[jax.Array, Weights]:
            weights = models.with_kernels(params, kernels)
            output, stats = models.apply(graph, weights, state.stats, x, train=True)
            return task.loss(output, target), stats

        (loss, stats), (gradients, of_kernels) = jax.value_and_grad(
            loss_of, argnums=(0, 1), has_aux=True
        )(state.params, kernels)
        gradients = models.with_kernels(gradients, of_kernels, jnp.float32)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        finite = jnp.isfinite(loss) & _all_finite(_vectors(gradients))
        return TrainState(
            params=optax.apply_updates(state.params, updates),
            stats=stats,
            opt_state=opt_state,
            step=state.step + 1,
            loss_sum=state.loss_sum + loss,
            bad_step=_first_bad(state.bad_step, finite, state.step),
        )

    def run(
        state: TrainState, batch: Batch, resident: DeviceSlices | None
    ) -> tuple[TrainState, Progress]:
        def rounded(params: Weights) -> Kernels:
            return models.rounded_kernels(params, task.dtype)

        def body(carry: tuple[TrainState, Kernels], batch: Batch) -> tuple[Any, None]:
            state = train_step(*carry, batch, resident)
            return (state, rounded(state.params)), None

        if batch["seed"].ndim == 1:
            state = train_step(state, rounded(state.params), batch, resident)
        else:
            (state, _), _ = lax.scan(body, (state, rounded(state.params)), batch)
        finite = _all_finite(state.params)
        state = state._replace(bad_step=_first_bad(state.bad_step, finite, state.step - 1))
        return state, Progress(state.loss_sum, state.bad_step)

    compiled = jax.jit(
        run,
        donate_argnums=0,
        out_shardings=devices.replicated_sharding(mesh),
        compiler_options=devices.compiler_options(mesh, deterministic=deterministic),
    )
    cut = jax.jit(
        lambda resident, batch: gather(resident, batch, patch_size, mesh),
        out_shardings=devices.batch_sharding(mesh),  # as batches of the host have it
    )
    return TrainStep(compiled, cut, resident)


def _first_bad(bad_step: jax.Array, finite: jax.Array, step: jax.Array) -> jax.Array:
    return jnp.where((bad_step < 0) & ~finite, step, bad_step)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.isfinite(optax.global_norm(tree))


def _vectors(gradients: Weights) -> list[jax.Array]:
    """The gradients of normalisation and biases.

    Whatever makes a gradient not finite runs through them on its way back, and to look at them
    costs no pass over all parameters, which every step would notice. An overflow in the gradient
    of a kernel alone shows in the next loss, or at the end of the dispatch.
    """
    return [leaf for leaf in jax.tree.leaves(gradients) if leaf.ndim == 1]


def make_validation_step(
    task: Task, graph: nnx.GraphDef, mesh: Mesh
) -> Callable[[Weights, Weights, Batch], dict[str, jax.Array]]:
    """The compiled forward pass over whole slices: loss and per-slice statistics, everywhere."""

    @functools.partial(
        jax.jit,
        out_shardings=devices.replicated_sharding(mesh),
        compiler_options=devices.compiler_options(mesh, deterministic=True),
    )
    def validation_step(params: Weights, stats: Weights, batch: Batch) -> dict[str, jax.Array]:
        x, target = task.prepare(batch, training=False)
        output, _ = models.apply(graph, params, stats, x, train=False)
        return {"loss": task.loss(output, target), **task.validate(output, target)}

    return validation_step
