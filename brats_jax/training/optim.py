"""Learning-rate schedule and optimiser."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from brats_jax.training.options import TrainOptions


def step_schedule(
    learning_rate: float, *, factor: float, every_epochs: int, steps_per_epoch: int
) -> optax.Schedule:
    """Piecewise constant: learning_rate * factor ** (epoch // every_epochs).

    The paper's StepLR: 1e-4, factor 0.5, every 10 epochs.

    Args:
      learning_rate: rate of the first epochs.
      factor: multiplies the rate at each change; 1 keeps it constant.
      every_epochs: epochs between two changes.
      steps_per_epoch: optimiser steps in an epoch.

    Returns:
      step -> learning rate.
    """
    period = every_epochs * steps_per_epoch

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        # Not optax.exponential_decay: XLA turns its division by the period into a product with
        # the period's reciprocal, and one period in seven then decays a step late. Its other
        # operations are kept, so that the rates have the same bits.
        changes = (jnp.asarray(step) // period).astype(jnp.float32)
        decayed = learning_rate * jnp.power(factor, changes)
        return jnp.where(changes <= 0, learning_rate, decayed)

    return schedule


def cosine_schedule(learning_rate: float, *, steps: int) -> optax.Schedule:
    """Half a cosine from the rate to 0: learning_rate * (1 + cos(pi * step / steps)) / 2.

    Args:
      learning_rate: rate of the first step.
      steps: optimiser steps of the stage.

    Returns:
      step -> learning rate.

    Reference: Loshchilov & Hutter 2017, https://arxiv.org/abs/1608.03983
    """
    return optax.cosine_decay_schedule(learning_rate, steps)


def schedule_of(options: TrainOptions, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of a stage: step -> rate."""
    if options.schedule == "cosine":
        return cosine_schedule(options.learning_rate, steps=options.epochs * steps_per_epoch)
    return step_schedule(
        options.learning_rate,
        factor=options.decay_factor,
        every_epochs=options.decay_every_epochs,
        steps_per_epoch=steps_per_epoch,
    )


def adam(schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam with PyTorch's defaults (betas 0.9 and 0.999, epsilon 1e-8), as in the paper.

    Reference: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980
    """
    return optax.adam(schedule, b1=0.9, b2=0.999, eps=1e-8)


def slower_where(
    transferred: Any, optimizer: optax.GradientTransformation, factor: float, frozen_steps: int
) -> optax.GradientTransformation:
    """An optimiser whose updates of transferred parameters are 0 in the first steps, then smaller.

    The moments of the optimiser see the gradients of frozen parameters too: the first step after
    freezing is as long as any other.

    Args:
      transferred: a pytree like the parameters of bool arrays that broadcast to them.
      optimizer: of all parameters.
      factor: multiplies the learning rate of what was transferred.
      frozen_steps: first steps in which it does not change.
    """

    def init(params: Any) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

    def update(
        updates: Any, state: optax.ScaleByScheduleState, params: Any = None
    ) -> tuple[Any, optax.ScaleByScheduleState]:
        scale = jnp.where(state.count < frozen_steps, 0.0, factor).astype(jnp.float32)
        scaled = jax.tree.map(
            lambda update, mark: update * jnp.where(mark, scale, 1.0) if mark.any() else update,
            updates,
            transferred,
        )
        return scaled, optax.ScaleByScheduleState(count=state.count + 1)

    return optax.chain(optimizer, optax.GradientTransformation(init, update))
