import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from brats_jax.training.optim import (
    adam,
    adamw,
    optimizer_of,
    schedule_of,
    slower_where,
    step_schedule,
)
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


def test_after_a_warm_up_a_halving_schedule_goes_on_as_without_one():
    options = TrainOptions(epochs=4, learning_rate=2e-3, decay_every_epochs=2)
    plain = schedule_of(options, 10)
    warmed = jax.jit(schedule_of(dataclasses.replace(options, warmup_epochs=0.5), 10))
    rates = [float(warmed(step)) for step in range(40)]
    assert rates[:6] == pytest.approx([0, 4e-4, 8e-4, 1.2e-3, 1.6e-3, 2e-3])
    assert rates[5:] == [float(plain(step)) for step in range(5, 40)]


def test_after_a_warm_up_a_cosine_begins_at_the_full_rate_and_ends_with_the_stage():
    options = TrainOptions(epochs=3, learning_rate=2e-3, schedule="cosine", warmup_epochs=1)
    rates = [float(schedule_of(options, 4)(step)) for step in (0, 1, 4, 8, 12)]
    assert rates == pytest.approx([0, 5e-4, 2e-3, 1e-3, 0], abs=1e-9)
    # Nearly as long as the stage, the warm-up leaves one step.
    longest = dataclasses.replace(options, epochs=1, warmup_epochs=0.99)
    assert float(schedule_of(longest, 4)(3)) == pytest.approx(2e-3)


def test_adamw_decays_kernels_alone_and_with_the_learning_rate():
    """Updates of Adam, minus rate * decay * kernel; the second step has half the rate."""
    rates = [0.1, 0.05]
    schedule = lambda step: jnp.asarray(rates)[step]  # noqa: E731
    params = {"kernel": jnp.full((1, 1, 2, 3), 2.0), "bias": jnp.ones(3), "scale": jnp.ones(3)}
    gradients = jax.tree.map(lambda p: 0.3 * p, params)
    plain, decayed = adam(schedule), adamw(schedule, 0.25)
    states = plain.init(params), decayed.init(params)
    for rate in rates:
        expected, first = plain.update(gradients, states[0], params)
        found, second = decayed.update(gradients, states[1], params)
        states = first, second
        for name in ("bias", "scale"):
            np.testing.assert_array_equal(found[name], expected[name])
        np.testing.assert_allclose(
            found["kernel"], expected["kernel"] - rate * 0.25 * params["kernel"], rtol=1e-5
        )


def test_what_is_frozen_is_not_decayed():
    params = {"old": jnp.ones((1, 1, 1, 2)), "new": jnp.ones((1, 1, 1, 2))}
    marks = {"old": np.array(True), "new": np.array(False)}
    options = TrainOptions(optimizer="adamw", weight_decay=0.5, freeze_epochs=1)
    optimizer = optimizer_of(options, lambda step: 0.1, 3, marks)
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    assert (updates["old"] == 0).all()
    np.testing.assert_allclose(updates["new"], -0.1 * 0.5, rtol=1e-6)


def test_gradients_are_clipped_to_a_norm_over_all_parameters_before_adam_sees_them():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    gradients = [
        {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])},
        jax.tree.map(jnp.ones_like, params),
    ]
    clipped = [{"a": jnp.array([0.6, 0.0]), "b": jnp.array([0.8])}]
    clipped.append(jax.tree.map(lambda g: g / np.sqrt(3), gradients[1]))
    plain = adam(lambda step: 0.1)
    ours = optimizer_of(TrainOptions(clip_norm=1.0), lambda step: 0.1, 1)
    states = plain.init(params), ours.init(params)
    for given, small in zip(gradients, clipped, strict=True):
        expected, first = plain.update(small, states[0])
        found, second = ours.update(given, states[1])
        states = first, second
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
    loose = optimizer_of(TrainOptions(clip_norm=100.0), lambda step: 0.1, 1)
    same, _ = loose.update(gradients[0], loose.init(params))
    expected, _ = plain.update(gradients[0], plain.init(params))
    jax.tree.map(np.testing.assert_array_equal, same, expected)


def test_the_defaults_are_the_optimiser_of_the_paper_with_the_state_of_earlier_checkpoints():
    params = {"kernel": jnp.ones((1, 1, 2, 3))}
    schedule = schedule_of(TrainOptions(), 5)
    default, plain = optimizer_of(TrainOptions(), schedule, 5), adam(schedule)
    assert jax.tree.structure(default.init(params)) == jax.tree.structure(plain.init(params))

    def lowered(optimizer):
        return jax.jit(optimizer.update).lower(params, optimizer.init(params)).as_text()

    assert lowered(default) == lowered(plain)
