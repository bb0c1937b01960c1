"""Maximum pooling with a gradient that every platform has a deterministic form of."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from brats_jax.runtime import forms


def max_pool_3x3_stride2(x: Float[Array, "b h w c"]) -> Float[Array, "b ho wo c"]:
    """Maximum over 3x3 windows, stride 2, padded by one pixel of -inf on every side as in torch.

        y[m, n] = max over a, c in -1..1 of x[2m + a, 2n + c]

    As in torch the gradient goes to the first maximum of a window in row-major order, and NaN
    wins. The form in use compares even and odd columns, then rows. The gradient of the plain
    form (`select_and_scatter`) has no deterministic form on a GPU and does not compile under
    `--xla_gpu_exclude_nondeterministic_ops`, which training sets.
    """
    if forms.plain("max_pool"):
        return max_pool_3x3_stride2_plain(x)
    # Columns first, then rows: the first best column within each row, then the first best row.
    for axis in (2, 1):
        # An odd size gets one more -inf at the end, in no window.
        x = _pad_axis(x, axis, (0, x.shape[axis] % 2))
        count = x.shape[axis] // 2
        pairs = x.reshape(*x.shape[:axis], count, 2, *x.shape[axis + 1 :])
        even, odd = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
        best = lax.slice_in_dim(_pad_axis(odd, axis, (1, 0)), 0, count, axis=axis)
        for other in (even, odd):
            best = jnp.where((other > best) | jnp.isnan(other), other, best)
        x = best
    return x


def max_pool_3x3_stride2_plain(x: Float[Array, "b h w c"]) -> Float[Array, "b ho wo c"]:
    """The plain form of `max_pool_3x3_stride2`: XLA's window reduction."""
    window, steps = (1, 3, 3, 1), (1, 2, 2, 1)
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, window, steps, padding)


def _pad_axis(x: jax.Array, axis: int, before_after: tuple[int, int]) -> jax.Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = before_after
    return jnp.pad(x, widths, constant_values=-jnp.inf)
