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


def warmed_up(schedule: optax.Schedule, learning_rate: float, warmup_steps: int) -> optax.Schedule:
    """A line from 0 in the first steps, then the schedule.

        learning_rate * step / warmup_steps    for step < warmup_steps
        schedule(step)                         from there on

    Args:
      schedule: step -> rate; steps count from the beginning of the stage.
      learning_rate: to which the line leads.
      warmup_steps: at least 1.

    Reference: Goyal et al. 2017, https://arxiv.org/abs/1706.02677
    """

    def warmed(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step)
        rising = learning_rate * (step.astype(jnp.float32) / warmup_steps)
        return jnp.where(step < warmup_steps, rising, schedule(step))

    return warmed


def schedule_of(options: TrainOptions, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of a stage: step -> rate.

    After a warm-up, `halve` goes on as without one: its epochs count from the beginning of the
    stage. `cosine` begins at the full rate where the warm-up ends, and ends with the stage.
    """
    rate, steps = options.learning_rate, options.epochs * steps_per_epoch
    warmup = min(round(options.warmup_epochs * steps_per_epoch), steps - 1)
    if options.schedule == "cosine":
        cosine = cosine_schedule(rate, steps=steps - warmup)
        if not warmup:
            return cosine
        return warmed_up(lambda step: cosine(step - warmup), rate, warmup)
    halve = step_schedule(
        rate,
        factor=options.decay_factor,
        every_epochs=options.decay_every_epochs,
        steps_per_epoch=steps_per_epoch,
    )
    return warmed_up(halve, rate, warmup) if warmup else halve


def adam(schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam with PyTorch's defaults (betas 0.9 and 0.999, epsilon 1e-8), as in the paper.

    Reference: Kingma & Ba 2015, https://arxiv.org/abs/1412.6980
    """
    return optax.adam(schedule, b1=0.9, b2=0.999, eps=1e-8)


def adamw(schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """Adam with decoupled weight decay of the kernels.

        update = -rate * (Adam's direction + weight_decay * kernel)

    Biases and the scales of BatchNorm are not decayed, as in He et al. 2019,
    https://arxiv.org/abs/1812.01187

    Reference: Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101
    """

    def kernels(params: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.ndim == 4, params)

    return optax.adamw(
        schedule, b1=0.9, b2=0.999, eps=1e-8, weight_decay=weight_decay, mask=kernels
    )


def optimizer_of(
    options: TrainOptions,
    schedule: optax.Schedule,
    steps_per_epoch: int,
    transferred: Any = None,
) -> optax.GradientTransformation:
    """The optimiser of a stage.

    In this order: the gradients of all parameters, frozen ones included, are clipped to a global
    norm of `clip_norm` (Pascanu et al. 2013, https://arxiv.org/abs/1211.5063); Adam or AdamW makes
    updates of them; those of transferred parameters, weight decay included, are scaled.

    Args:
      options: of the stage.
      schedule: its learning rate.
      steps_per_epoch: optimiser steps in an epoch.
      transferred: parameters that are frozen or slowed down (`transfer.transfer_mask`), or None.
    """
    optimizer = adam(schedule)
    if options.optimizer == "adamw":
        optimizer = adamw(schedule, options.weight_decay)
    if options.clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(options.clip_norm), optimizer)
    if transferred is not None:
        frozen_steps = options.freeze_epochs * steps_per_epoch
        optimizer = slower_where(transferred, optimizer, options.transferred_factor, frozen_steps)
    return optimizer


def slower_where(
    transferred: Any, optimizer: optax.GradientTransformation, factor: float, frozen_steps: int
) -> optax.GradientTransformation:
    """An optimiser whose updates of transferred parameters are 0 in the first steps, then smaller.

    The moments of the optimiser include the gradients of frozen parameters, so that the first step
    after the freezing is no longer than the following ones.

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
