import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brats_jax.training.averaging import averaged


def network_of(value):
    return {"params": {"kernel": jnp.asarray(value)}, "stats": {"mean": 2 * jnp.asarray(value)}}


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_an_average_forgets_the_start_first_and_then_as_slowly_as_asked(decay):
    """After each update in float64; the decay 0.3 is reached after four updates."""
    values = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    average, expected = network_of(values[0]), values[0].astype(np.float64)
    step = jax.jit(averaged, static_argnames="decay")
    for t, value in enumerate(values[1:], start=1):
        average = step(average, network_of(value), jnp.int32(t), decay=decay)
        d = min(decay, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * value
        np.testing.assert_allclose(average["params"]["kernel"], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(average["stats"]["mean"], 2 * expected, rtol=1e-5, atol=2e-6)


def test_what_does_not_change_is_its_own_average_to_the_bit():
    network = network_of(np.random.default_rng(0).normal(size=1000).astype(np.float32))
    average = network
    for t in (1, 2, 70, 10_000):
        average = averaged(average, network, jnp.int32(t), 0.99)
    jax.tree.map(np.testing.assert_array_equal, average, network)
