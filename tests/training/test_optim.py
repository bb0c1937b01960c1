import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from brats_jax.training.optim import adam, schedule_of, slower_where, step_schedule
from brats_jax.training.options import TrainOptions


def test_the_learning_rate_is_halved_every_ten_epochs():
    schedule = step_schedule(1e-4, factor=0.5, every_epochs=10, steps_per_epoch=7)
    rates = [float(schedule(step)) for step in (0, 69, 70, 139, 140)]
    assert rates == pytest.approx([1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5])


def test_a_factor_of_one_keeps_the_learning_rate():
    schedule = step_schedule(1e-3, factor=1.0, every_epochs=1, steps_per_epoch=2)
    assert {float(schedule(step)) for step in range(9)} == {float(jnp.float32(1e-3))}


def test_adam_makes_the_updates_of_its_paper():
    """Algorithm 1 of Kingma & Ba, in float64, with PyTorch's defaults."""
    rate, gradients = 0.1, np.array([[0.5, -2.0], [1.0, 0.1], [-3.0, 0.0]])
    optimizer = adam(lambda step: rate)
    state, m, v = optimizer.init(jnp.zeros(2)), np.zeros(2), np.zeros(2)
    for t, g in enumerate(gradients, start=1):
        update, state = optimizer.update(jnp.asarray(g, jnp.float32), state)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected = -rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(update, expected, rtol=1e-4)


def test_the_rate_changes_exactly_at_the_epoch_for_every_length_of_an_epoch():
    """Compiled with the lengths as constants: XLA multiplies by their rounded reciprocals."""
    lengths = np.arange(1, 800)[:, None]
    changes, offsets = np.meshgrid(np.arange(1, 12), [-1, 0], indexing="ij")
    steps = lengths * 10 * changes.ravel() + offsets.ravel()
    expected = np.float32(1e-4) * np.float32(0.5) ** (changes + offsets).ravel()

    schedule = step_schedule(1e-4, factor=0.5, every_epochs=10, steps_per_epoch=lengths)
    rates = jax.jit(schedule)(steps.astype(np.int32))
    np.testing.assert_array_equal(rates, np.broadcast_to(expected, steps.shape))

    # With a division of floating-point numbers, 106 lengths change their rate a step late.
    floor = jax.jit(lambda step: jnp.floor(step / (10 * lengths)))(steps.astype(np.int32))
    late = (floor != (changes + offsets).ravel()).any(axis=1)
    assert late.sum() > 50 and late[11 - 1]


@pytest.mark.parametrize("length", [1, 7, 11, 512, 799])
def test_the_rate_has_the_same_bits_as_that_of_optax_where_its_division_is_exact(length):
    ours = jax.jit(step_schedule(3e-4, factor=0.7, every_epochs=2, steps_per_epoch=length))
    theirs = optax.exponential_decay(3e-4, 2 * length, 0.7, staircase=True)
    steps = np.array([0, 1, 2 * length + 1, 9 * length + length // 2, 40 * length + 1], np.int32)
    np.testing.assert_array_equal(ours(steps), jax.jit(theirs)(steps))


def test_transferred_parameters_stand_still_and_then_move_by_the_factor():
    """Beside Adam alone: 0 in two steps, then a quarter; a mark may concern single channels."""
    params = {"old": jnp.ones(3), "new": jnp.ones(3), "stem": jnp.ones((1, 1, 2, 3))}
    channels = np.array([True, False])[None, None, :, None]
    marks = {"old": np.array(True), "new": np.array(False), "stem": channels}
    plain = adam(lambda step: 0.1)
    slower = slower_where(marks, plain, factor=0.25, frozen_steps=2)
    states = plain.init(params), slower.init(params)
    rng = np.random.default_rng(0)
    for step in range(5):
        gradients = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), params)
        full, first = plain.update(gradients, states[0])
        part, second = slower.update(gradients, states[1])
        states = first, second
        factor = 0 if step < 2 else np.float32(0.25)
        np.testing.assert_array_equal(part["old"], factor * full["old"])
        np.testing.assert_array_equal(part["new"], full["new"])
        np.testing.assert_array_equal(part["stem"][..., 0, :], factor * full["stem"][..., 0, :])
        np.testing.assert_array_equal(part["stem"][..., 1, :], full["stem"][..., 1, :])
    assert (np.asarray(full["old"]) != 0).all()


def test_a_cosine_goes_from_the_rate_to_zero_at_the_end_of_the_stage():
    options = TrainOptions(epochs=4, learning_rate=2e-3, schedule="cosine")
    schedule = schedule_of(options, 5)
    rates = [float(schedule(step)) for step in (0, 5, 10, 15, 20)]
    assert rates == pytest.approx([2e-3, 2e-3 * 0.853553, 1e-3, 2e-3 * 0.146447, 0], abs=1e-9)
    halved = schedule_of(dataclasses.replace(options, schedule="halve", decay_every_epochs=1), 5)
    assert [float(halved(step)) for step in (0, 5, 10)] == pytest.approx([2e-3, 1e-3, 5e-4])
