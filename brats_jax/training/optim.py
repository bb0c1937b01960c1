"""Learning-rate schedule and optimiser."""

import jax
import jax.numpy as jnp
import optax


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


def adam(schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam with PyTorch's defaults (betas 0.9 and 0.999, epsilon 1e-8), as in the paper.

    Reference: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980
    """
    return optax.adam(schedule, b1=0.9, b2=0.999, eps=1e-8)
