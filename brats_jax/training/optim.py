"""Learning-rate schedule and optimiser."""

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
    return optax.exponential_decay(
        learning_rate,
        transition_steps=every_epochs * steps_per_epoch,
        decay_rate=factor,
        staircase=True,
    )


def adam(schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam with PyTorch's defaults (betas 0.9 and 0.999, epsilon 1e-8), as in the paper.

    Reference: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980
    """
    return optax.adam(schedule, b1=0.9, b2=0.999, eps=1e-8)
