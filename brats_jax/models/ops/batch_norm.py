"""Batch normalisation by the batch's own statistics, with written gradients (NHWC)."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from brats_jax.models.ops import groups
from brats_jax.models.ops.batch_norm_bfloat16 import BATCH_NORM_EPSILON, Normalised, in_one_pass
from brats_jax.models.ops.groups import WHOLE_BATCH, Groups
from brats_jax.runtime import forms


def batch_norm(
    x: Float[Array, "b h w c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    shortcut: Float[Array, "b h w c"] | None = None,
    *,
    relu: bool = False,
) -> Normalised:
    """Normalises each channel over the batch, then optionally adds `shortcut` and applies ReLU.

        y = (x - mean) / sqrt(var + 1e-5) * scale + bias [+ shortcut], [max(y, 0)]

    Within `groups.normalised_over` each sample is normalised by mean and var of its group.

    Args:
      x: maps, float32 or bfloat16; statistics are float32 either way.
      scale, bias: float32.
      shortcut: added to the result, in the dtype of `x`; nothing is added where None.
      relu: whether negative values become zero.

    Returns:
      y in the dtype of `x`, and the mean and the biased variance, float32; of groups, the means
      over the groups of both. Gradients flow through y alone.
    """
    over = groups.current()
    if not over.size or over.size == len(x):
        return _normalised(x, scale, bias, shortcut, relu=relu, over=over)

    def divided(maps: jax.Array) -> jax.Array:
        return maps.reshape(-1, over.size, *maps.shape[1:])

    y, mean, var = jax.vmap(
        functools.partial(_normalised, relu=relu, over=WHOLE_BATCH),
        in_axes=(0, None, None, None if shortcut is None else 0),
    )(divided(x), scale, bias, None if shortcut is None else divided(shortcut))
    return y.reshape(x.shape), mean.mean(0), var.mean(0)


def _normalised(
    x: Float[Array, "b h w c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    shortcut: Float[Array, "b h w c"] | None,
    *,
    relu: bool,
    over: Groups,
) -> Normalised:
    """`batch_norm` of one group, or of this device's part of one."""
    if forms.plain("batch_norm"):
        return batch_norm_plain(x, scale, bias, shortcut, relu=relu, over=over)
    if x.dtype == jnp.bfloat16:
        return in_one_pass(x, scale, bias, shortcut, relu, over)
    y, mean, var = _in_two_passes(x, scale, bias, over)
    y = add_and_relu(y, shortcut, relu)
    if shortcut is not None and forms.on_cpu():
        y = _computed_once(y, mean)
    return y, mean, var


def batch_norm_plain(
    x: Float[Array, "b h w c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    shortcut: Float[Array, "b h w c"] | None = None,
    *,
    relu: bool = False,
    over: Groups = WHOLE_BATCH,
) -> Normalised:
    """The plain form of `batch_norm` over one group: in float32, its gradients are derived."""
    wide = x.astype(jnp.float32)
    mean = _mean(wide, over)
    var = _mean(jnp.square(wide - mean), over)
    y = (wide - mean) / jnp.sqrt(var + BATCH_NORM_EPSILON) * scale + bias
    shortcut = None if shortcut is None else shortcut.astype(jnp.float32)
    mean, var = lax.stop_gradient((mean, var))
    return add_and_relu(y, shortcut, relu).astype(x.dtype), mean, var


def _mean(x: jax.Array, over: Groups) -> jax.Array:
    """Mean of each channel over the group; all devices hold equal parts of it."""
    (total,) = over.add_up((x.mean((0, 1, 2)),))
    return total / over.devices if over.shared else total


def add_and_relu(
    y: Float[Array, "b h w c"], shortcut: Float[Array, "b h w c"] | None, relu: bool
) -> Float[Array, "b h w c"]:
    """Adds `shortcut` to `y` unless it is None, and applies ReLU where `relu` is True."""
    y = y if shortcut is None else y + shortcut
    return jax.nn.relu(y) if relu else y


def _computed_once(y: jax.Array, mean: jax.Array) -> jax.Array:
    """`y` divided by 1, in a form that XLA:CPU cannot simplify.

    XLA:CPU recomputes a cheap value in each operation that reads it. A sum with a shortcut is
    cheap to it, and so are all sums since the stage's first block, five maps and more, and
    their gradients. A division is not, so the sum is computed once, which saves 5 % of a
    segmentation step (benchmarks/results). XLA:CPU removes an optimization barrier before it
    decides.
    """
    one = lax.stop_gradient(jnp.where(jnp.isnan(mean[0]), mean[0], 1))
    return y / one


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _in_two_passes(
    x: Float[Array, "b h w c"], scale: Float[Array, " c"], bias: Float[Array, " c"], over: Groups
) -> Normalised:
    """`batch_norm` of float32, without shortcut and ReLU, with a written gradient.

    With y = xhat * scale + bias, xhat = (x - mean) / sqrt(var + 1e-5) and g = dL/dy,

        dL/dx = scale / sqrt(var + 1e-5) * (g - mean(g) - xhat * mean(g * xhat))

    It keeps `x` alone for the backward pass and reads it twice; the derived gradient keeps and
    reads more.
    """
    return _forward(x, scale, bias, over)[0]


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, over: Groups) -> tuple:
    mean = _mean(x, over)
    # Two passes: E[x^2] - E[x]^2 loses the variance of channels far from zero.
    var = _mean(jnp.square(x - mean), over)
    inverse_std = lax.rsqrt(var + BATCH_NORM_EPSILON)
    y = (x.astype(jnp.float32) - mean) * (inverse_std * scale) + bias
    return (y, mean, var), (x, mean, inverse_std, scale)


def _backward(over: Groups, residuals: tuple, gradients: tuple) -> tuple:
    x, mean, inverse_std, scale = residuals
    g, count = gradients[0], over.devices * (x.size // x.shape[-1])
    xhat = (x - mean) * inverse_std
    d_bias = g.sum((0, 1, 2))
    d_scale = (g * xhat).sum((0, 1, 2))
    # Of the whole group; the gradients of scale and bias stay those of this device's samples.
    of_bias, of_scale = over.add_up((d_bias, d_scale))
    d_x = (g - of_bias / count - xhat * (of_scale / count)) * (inverse_std * scale)
    return d_x, d_scale, d_bias


_in_two_passes.defvjp(_forward, _backward)
