"""Maximum pooling beside torch's stored numbers and XLA's window reduction."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from vjps import assert_close, normal, value_and_vjp

from brats_jax.models.ops.max_pool import max_pool_3x3_stride2, max_pool_3x3_stride2_plain

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "torch_models.npz")
each_form = pytest.mark.parametrize("pool", [max_pool_3x3_stride2, max_pool_3x3_stride2_plain])


@each_form
@pytest.mark.parametrize("size", ["8x8", "7x5", "1x6"])
def test_the_gradient_among_ties_is_torchs(pool, size):
    x, y, g, dx = (GOLDEN[f"pool/{size}/{n}"] for n in ("x", "y", "g", "dx"))
    assert_close(value_and_vjp(pool, g, x), (y, dx), atol=1e-6)


@pytest.mark.parametrize("height, width", [(8, 8), (7, 5), (1, 6)])
def test_both_forms_are_equal(height, width):
    x = normal(2, height, width, 3)
    g = normal(2, (height + 1) // 2, (width + 1) // 2, 3, seed=1)
    ours = value_and_vjp(max_pool_3x3_stride2, g, x)
    assert_close(ours, value_and_vjp(max_pool_3x3_stride2_plain, g, x), atol=1e-6)


def test_gradients_among_many_ties_go_to_the_first_maximum():
    """In row-major order; whole numbers, whose sums are exact in any order."""
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 2, (2, 7, 6, 3)).astype(np.float32)
    g = rng.integers(-9, 9, (2, 4, 3, 3)).astype(np.float32)
    plain = value_and_vjp(max_pool_3x3_stride2_plain, g, x)
    for a, e in zip(value_and_vjp(max_pool_3x3_stride2, g, x), plain, strict=True):
        np.testing.assert_array_equal(a, e)


def test_nan_wins_and_negative_values_stay():
    x = np.full((1, 4, 4, 1), -5.0, np.float32)
    x[0, 1, 1] = np.nan
    y = max_pool_3x3_stride2(jnp.asarray(x))[0, :, :, 0]
    # Pixel (1, 1) is in all four windows: rows and columns -1..1 and 1..3.
    assert np.isnan(y).all()
    x[0, 1, 1], x[0, 0, 3] = -5, np.nan
    y = max_pool_3x3_stride2(jnp.asarray(x))[0, :, :, 0]
    np.testing.assert_array_equal(y, [[-5, np.nan], [-5, -5]])
