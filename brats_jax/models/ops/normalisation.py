"""Batch normalisation by the batch's own statistics, with written gradients (NHWC).

Two forms. In float32 the statistics take two passes, and shortcut and ReLU are left to the
compiler. In bfloat16, which is for accelerators, what counts is how often a map is read and how
many programs a step is made of: statistics, and what the gradient needs of them, take one pass
each; normalisation, shortcut and ReLU are another; the backward pass keeps and reads no map but
the input and the output of the layer, which are there anyway.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from brats_jax.models.ops import operations

BATCH_NORM_EPSILON = 1e-5

Normalised = tuple[Float[Array, "b h w c"], Float[Array, " c"], Float[Array, " c"]]


def batch_norm(
    x: Float[Array, "b h w c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    shortcut: Float[Array, "b h w c"] | None = None,
    *,
    relu: bool = False,
) -> Normalised:
    """Normalises each channel over the batch, then adds `shortcut` and cuts off below zero.

        y = (x - mean) / sqrt(var + 1e-5) * scale + bias [+ shortcut], [max(y, 0)]

    Args:
      x: maps, float32 or bfloat16; statistics are float32 either way.
      scale, bias: float32.
      shortcut: what is added, in the dtype of `x`; None adds nothing.
      relu: whether negative values become zero.

    Returns:
      y in the dtype of `x`, and the mean and the biased variance, float32. Gradients flow
      through y alone.
    """
    if x.dtype == jnp.bfloat16:
        return _in_one_pass(x, scale, bias, shortcut, relu)
    y, mean, var = _in_two_passes(x, scale, bias)
    y = add_and_cut(y, shortcut, relu)
    if shortcut is not None and operations.on_cpu():
        y = _computed_once(y, mean)
    return y, mean, var


def add_and_cut(
    y: Float[Array, "b h w c"], shortcut: Float[Array, "b h w c"] | None, relu: bool
) -> Float[Array, "b h w c"]:
    """`y`, plus the shortcut where there is one, and nothing negative where `relu` is True."""
    y = y if shortcut is None else y + shortcut
    return jax.nn.relu(y) if relu else y


def _computed_once(y: jax.Array, mean: jax.Array) -> jax.Array:
    """`y`, divided by a number that is one, which XLA:CPU does not know.

    What several operations need and is cheap to compute it computes again in each. With a
    shortcut that is everything since the stage's first block, five maps and more, and its
    gradient alike: some 4 % of a segmentation's step (benchmarks/before.py). A division is not
    cheap to it; an optimization barrier is gone before it decides.
    """
    one = lax.stop_gradient(jnp.where(jnp.isnan(mean[0]), mean[0], 1))
    return y / one


@jax.custom_vjp
def _in_two_passes(
    x: Float[Array, "b h w c"], scale: Float[Array, " c"], bias: Float[Array, " c"]
) -> Normalised:
    """`batch_norm` of float32, without shortcut and ReLU, with a written gradient.

    With y = xhat * scale + bias, xhat = (x - mean) / sqrt(var + 1e-5) and g = dL/dy,

        dL/dx = scale / sqrt(var + 1e-5) * (g - mean(g) - xhat * mean(g * xhat))

    which keeps `x` alone for the backward pass and reads it twice, where differentiating the
    forward pass step by step keeps and reads more. `mean` and `var` are constants to it.

    """
    return _two_pass_forward(x, scale, bias)[0]


def _two_pass_forward(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple:
    mean = x.mean((0, 1, 2))
    # Two passes: E[x^2] - E[x]^2 loses the variance of channels far from zero.
    var = jnp.square(x - mean).mean((0, 1, 2))
    inverse_std = lax.rsqrt(var + BATCH_NORM_EPSILON)
    y = _affine(x, mean, inverse_std, scale, bias)
    return (y, mean, var), (x, mean, inverse_std, scale)


def _two_pass_backward(residuals: tuple, gradients: tuple) -> tuple:
    x, mean, inverse_std, scale = residuals
    g, count = gradients[0], x.size // x.shape[-1]
    xhat = (x - mean) * inverse_std
    d_bias = g.sum((0, 1, 2))
    d_scale = (g * xhat).sum((0, 1, 2))
    d_x = (g - d_bias / count - xhat * (d_scale / count)) * (inverse_std * scale)
    return d_x, d_scale, d_bias


_in_two_passes.defvjp(_two_pass_forward, _two_pass_backward)


class _Kept(NamedTuple):
    """What the backward pass needs of the forward one."""

    x: jax.Array
    mean: jax.Array
    inverse_std: jax.Array
    scale: jax.Array
    bias: jax.Array
    y: jax.Array  # looked at with ReLU and shortcut only, else the compiler does not keep it
    shortcut: bool


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _in_one_pass(
    x: jax.Array, scale: jax.Array, bias: jax.Array, shortcut: jax.Array | None, relu: bool
) -> Normalised:
    """`batch_norm` of bfloat16: sums of x and of its square in one pass, var = E[x^2] - E[x]^2.

    Added up in float32, where the square of a bfloat16 is exact, the difference is off by some
    2^-24 of mean^2 and a few times that. Rounding `x` to bfloat16 has put in about 2^-18 / 3 of
    mean^2 before, so no channel that had any variance left loses it here.
    """
    return _one_pass_forward(x, scale, bias, shortcut, relu)[0]


def _one_pass_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, shortcut: jax.Array | None, relu: bool
) -> tuple[Normalised, _Kept]:
    count = x.size // x.shape[-1]
    x32 = x.astype(jnp.float32)
    total, squares = _column_sums(x32, jnp.square(x32))
    mean = total / count
    var = jnp.maximum(squares / count - jnp.square(mean), 0)
    inverse_std = lax.rsqrt(var + BATCH_NORM_EPSILON)
    # XLA would compute float32 maps once for both passes, and write and read them for that.
    x = lax.optimization_barrier(x)
    y = _affine(x, mean, inverse_std, scale, bias)
    if shortcut is not None:
        y = y + shortcut.astype(jnp.float32)
    y = (jnp.maximum(y, 0) if relu else y).astype(x.dtype)
    y = lax.optimization_barrier(y)  # or a float32 one is kept for the next shortcut
    kept = _Kept(x, mean, inverse_std, scale, bias, y, shortcut is not None)
    return (y, mean, var), kept


def _one_pass_backward(relu: bool, kept: _Kept, gradients: tuple) -> tuple:
    g, x, y = gradients[0], kept.x, kept.y
    count = x.size // x.shape[-1]
    passed = _passed(g, x, y, kept, relu)
    d_bias, product = _column_sums(passed, passed * x.astype(jnp.float32))
    d_scale = (product - kept.mean * d_bias) * kept.inverse_std
    g, x, y = lax.optimization_barrier((g, x, y))  # as in the forward pass
    passed = _passed(g, x, y, kept, relu)
    xhat = (x.astype(jnp.float32) - kept.mean) * kept.inverse_std
    d_x = passed - d_bias / count - xhat * (d_scale / count)
    d_x *= kept.inverse_std * kept.scale
    d_shortcut = passed.astype(g.dtype) if kept.shortcut else None
    return d_x.astype(x.dtype), d_scale, d_bias, d_shortcut


def _passed(g: jax.Array, x: jax.Array, y: jax.Array, kept: _Kept, relu: bool) -> jax.Array:
    """The gradient before ReLU, float32.

    Whether ReLU let a number pass is computed again from `x`, which is read in any case, unless
    a shortcut went into it.
    """
    g32 = g.astype(jnp.float32)
    if not relu:
        return g32
    reached = y if kept.shortcut else _affine(x, kept.mean, kept.inverse_std, kept.scale, kept.bias)
    return jnp.where(reached > 0, g32, 0)


_in_one_pass.defvjp(_one_pass_forward, _one_pass_backward)


def _affine(
    x: jax.Array, mean: jax.Array, inverse_std: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    return (x.astype(jnp.float32) - mean) * (inverse_std * scale) + bias


# So many rows at least are added up in parts first. XLA's GPU compiler does so only above 4096,
# and up to there has one block of threads for 32 channels, which leaves most of a GPU idle.
_ROWS_TO_DIVIDE = 2048
_ROWS_OF_A_PART = 128


def _column_sums(*maps: jax.Array) -> tuple[jax.Array, ...]:
    """The sum of each map over all axes but the last, all in one pass.

    Of many rows in two: parts of about as many rows as there are parts, then the parts' sums.
    """
    flat = tuple(m.reshape(-1, m.shape[-1]) for m in maps)
    rows = flat[0].shape[0]
    part = max(_ROWS_OF_A_PART, 2 ** ((rows.bit_length() - 1) // 2))
    if rows >= _ROWS_TO_DIVIDE and rows % part == 0:
        parts = _sums(tuple(m.reshape(rows // part, part, -1) for m in flat), 1)
        flat = lax.optimization_barrier(parts)  # two sums in a row would be made one
    return _sums(flat, 0)


def _sums(maps: tuple[jax.Array, ...], axis: int) -> tuple[jax.Array, ...]:
    def add(left: tuple[jax.Array, ...], right: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(a + b for a, b in zip(left, right, strict=True))

    zero = jnp.zeros((), jnp.float32)
    return tuple(lax.reduce(maps, (zero,) * len(maps), add, (axis,)))
