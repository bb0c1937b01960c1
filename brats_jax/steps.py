"""The compiled steps of training, and the state they change."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from brats_jax import devices, models
from brats_jax.models import Weights
from brats_jax.tasks import Batch, Task


class TrainState(NamedTuple):
    """All that a step changes; a pytree of arrays, replicated over the devices.

    Attributes:
      params, stats: the model's weights and BatchNorm statistics (see models.split).
      opt_state: the optimiser's.
      step: int32, optimiser steps done.
      loss_sum: float32, summed loss of the steps since the epoch began.
      bad_step: int32, the first step whose loss or update was not finite, or -1.
    """

    params: Weights
    stats: Weights
    opt_state: Any
    step: jax.Array
    loss_sum: jax.Array
    bad_step: jax.Array


def make_train_step(
    task: Task, graph: nnx.GraphDef, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Callable[[TrainState, Batch], TrainState]:
    """The compiled optimiser step; the state it is given is donated."""

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        x, target = task.prepare(batch, training=True)

        def loss_of(params: Weights) -> tuple[jax.Array, Weights]:
            output, stats = models.apply(graph, params, state.stats, x, train=True)
            return task.loss(output, target), stats

        (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        # A finite loss can have an update that is not, and the parameters would be lost.
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.global_norm(updates))
        is_first_bad = (state.bad_step < 0) & ~finite
        return TrainState(
            params=optax.apply_updates(state.params, updates),
            stats=stats,
            opt_state=opt_state,
            step=state.step + 1,
            loss_sum=state.loss_sum + loss,
            bad_step=jnp.where(is_first_bad, state.step, state.bad_step),
        )

    return jax.jit(train_step, donate_argnums=0, out_shardings=devices.replicated(mesh))


def make_validation_step(
    task: Task, graph: nnx.GraphDef
) -> Callable[[Weights, Weights, Batch], dict[str, jax.Array]]:
    """The compiled forward pass over whole slices: loss and per-slice statistics."""

    @jax.jit
    def validation_step(params: Weights, stats: Weights, batch: Batch) -> dict[str, jax.Array]:
        x, target = task.prepare(batch, training=False)
        output, _ = models.apply(graph, params, stats, x, train=False)
        return {"loss": task.loss(output, target), **task.validate(output, target)}

    return validation_step
