"""Batch normalisation of bfloat16 maps for accelerators; `batch_norm` has the plain form.

On an accelerator a step takes as long as its maps take to read and write. So one pass computes
the statistics, one pass the sums for the gradient, and one pass each normalises, adds the
shortcut and applies ReLU. The backward pass reads the layer's input and output alone. Without all
of this a step for an H100 is estimated 1.4 times as long.

The barriers and the sums in parts bring less than 3 % of that step with jax 0.10
(benchmarks/results/2026-11-28-forms-2-core-epyc.md). They stay because results of bfloat16 would
have other last bits without them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from brats_jax.models.ops.groups import Groups

BATCH_NORM_EPSILON = 1e-5

# Maps, and the mean and the biased variance of their channels.
Normalised = tuple[Float[Array, "b h w c"], Float[Array, " c"], Float[Array, " c"]]


class _Residuals(NamedTuple):
    """Values that the backward pass needs of the forward one."""

    x: jax.Array
    mean: jax.Array
    inverse_std: jax.Array
    scale: jax.Array
    bias: jax.Array
    y: jax.Array  # read with ReLU and shortcut only, else the compiler does not keep it
    shortcut: bool


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def in_one_pass(
    x: Float[Array, "b h w c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    shortcut: Float[Array, "b h w c"] | None,
    relu: bool,
    over: Groups,
) -> Normalised:
    """`batch_norm` of bfloat16, with var = E[x^2] - E[x]^2 from one pass over `x`.

    Sums are in float32, where the square of a bfloat16 is exact, so the difference is off by a
    few times 2^-24 mean^2. Rounding `x` to bfloat16 already changed it by about 2^-18 / 3 mean^2:
    a channel that has variance left after rounding does not lose it here.
    """
    return _forward(x, scale, bias, shortcut, relu, over)[0]


def _forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    shortcut: jax.Array | None,
    relu: bool,
    over: Groups,
) -> tuple[Normalised, _Residuals]:
    count = over.devices * (x.size // x.shape[-1])
    x32 = x.astype(jnp.float32)
    total, squares = over.add_up(column_sums(x32, jnp.square(x32)))
    mean = total / count
    var = jnp.maximum(squares / count - jnp.square(mean), 0)
    inverse_std = lax.rsqrt(var + BATCH_NORM_EPSILON)
    # Without this barrier XLA shares float32 maps between the two passes, and writes and reads
    # them.
    x = lax.optimization_barrier(x)
    y = _affine(x, mean, inverse_std, scale, bias)
    if shortcut is not None:
        y = y + shortcut.astype(jnp.float32)
    y = (jnp.maximum(y, 0) if relu else y).astype(x.dtype)
    y = lax.optimization_barrier(y)  # else XLA keeps a float32 map for the next shortcut
    kept = _Residuals(x, mean, inverse_std, scale, bias, y, shortcut is not None)
    return (y, mean, var), kept


def _backward(relu: bool, over: Groups, kept: _Residuals, gradients: tuple) -> tuple:
    g, x, y = gradients[0], kept.x, kept.y
    count = over.devices * (x.size // x.shape[-1])
    passed = _passed(g, x, y, kept, relu)
    d_bias, product = column_sums(passed, passed * x.astype(jnp.float32))
    d_scale = (product - kept.mean * d_bias) * kept.inverse_std
    # Of the whole group; the gradients of scale and bias stay those of this device's samples.
    of_bias, of_scale = over.add_up((d_bias, d_scale))
    g, x, y = lax.optimization_barrier((g, x, y))  # as in the forward pass
    passed = _passed(g, x, y, kept, relu)
    xhat = (x.astype(jnp.float32) - kept.mean) * kept.inverse_std
    d_x = passed - of_bias / count - xhat * (of_scale / count)
    d_x *= kept.inverse_std * kept.scale
    d_shortcut = passed.astype(g.dtype) if kept.shortcut else None
    return d_x.astype(x.dtype), d_scale, d_bias, d_shortcut


in_one_pass.defvjp(_forward, _backward)


def _passed(g: jax.Array, x: jax.Array, y: jax.Array, kept: _Residuals, relu: bool) -> jax.Array:
    """The gradient before ReLU, float32.

    Where no shortcut was added, the sign that ReLU saw is computed again from `x`, which is
    read in any case.
    """
    g32 = g.astype(jnp.float32)
    if not relu:
        return g32
    reached = y if kept.shortcut else _affine(x, kept.mean, kept.inverse_std, kept.scale, kept.bias)
    return jnp.where(reached > 0, g32, 0)


def _affine(
    x: jax.Array, mean: jax.Array, inverse_std: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    return (x.astype(jnp.float32) - mean) * (inverse_std * scale) + bias


# From this number of rows on, sums are taken in parts. XLA's GPU compiler takes parts only above
# 4096 rows; below, one block of threads sums 32 channels, and most of the GPU is idle.
_ROWS_TO_DIVIDE = 2048
_ROWS_OF_A_PART = 128


def column_sums(*maps: Float[Array, "b h w c"]) -> tuple[Float[Array, " c"], ...]:
    """Sums each map over all axes but the last, all maps in one pass.

    Many rows are summed in two steps: in about as many parts as a part has rows, then over the
    parts.
    """
    flat = tuple(m.reshape(-1, m.shape[-1]) for m in maps)
    rows = flat[0].shape[0]
    part = max(_ROWS_OF_A_PART, 2 ** ((rows.bit_length() - 1) // 2))
    if rows >= _ROWS_TO_DIVIDE and rows % part == 0:
        parts = _sums(tuple(m.reshape(rows // part, part, -1) for m in flat), 1)
        flat = lax.optimization_barrier(parts)  # else XLA makes one sum of the two
    return _sums(flat, 0)


def _sums(maps: tuple[jax.Array, ...], axis: int) -> tuple[jax.Array, ...]:
    def add(left: tuple[jax.Array, ...], right: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(a + b for a, b in zip(left, right, strict=True))

    zero = jnp.zeros((), jnp.float32)
    return tuple(lax.reduce(maps, (zero,) * len(maps), add, (axis,)))
