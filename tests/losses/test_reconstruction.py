"""Losses of the pretraining, by hand; those over the brain are in tests/tasks."""

import jax.numpy as jnp
import pytest

from brats_jax import losses


def test_mse_by_hand():
    a, b = jnp.array([[[[1.0], [2.0]]]]), jnp.array([[[[1.0], [5.0]]]])
    assert losses.mse(a, b) == 4.5
    assert losses.mse(a.astype(jnp.bfloat16), b).dtype == jnp.float32
    with pytest.raises(ValueError, match=r"\(1, 1, 2, 1\)"):
        losses.mse(a, b[..., 0])
