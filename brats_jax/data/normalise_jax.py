"""The normalisation of `normalise` in JAX, for exported models.

Traced in 64 bits (`jax.enable_x64`) it differs from NumPy only in the order of sums, by about
1e-16 before both are rounded to 16 bits. In 32 bits the sum over a volume has an error of 1e-6,
which changes one value in a thousand by one float16 step.
"""

from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from brats_jax.data.normalise import HALF_MAX, IQR_OF_NORMAL, PERCENTILE


def normalise(images: Float[Array, "n h w c"], how: str) -> Float[Array, "n h w c"]:
    """Normalises images as `data.normalise.normalise` does, for use inside `jit`.

    Args:
      images: float32, finite; slices of a scan (all slices of one scan unless by 'slice').
      how: one of `data.normalise.NORMALISATIONS`.

    Returns:
      float32 with float16 precision, equal to the values in a store.

    Raises:
      ValueError: traced without 64-bit numbers.
    """
    if jax.dtypes.canonicalize_dtype("float64") != jnp.float64:
        raise ValueError("normalise has to be traced under jax.enable_x64(True)")
    if how == "slice":
        inside = jnp.ones(images.shape, bool)
        return round_to_half(_z_scores(images, inside, (1, 2)))
    brain = (images != 0).any(-1, keepdims=True)
    inside = jnp.broadcast_to(brain, images.shape)
    return round_to_half(_z_scores(images, inside, (0, 1, 2), robust=how == "robust"))


def round_to_half(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """Rounds to the nearest float16 (ties to even), kept as float32.

    Not `astype(float16).astype(float32)`, which XLA may remove (`xla_allow_excess_precision`).
    `reduce_precision` stays, but flushes the subnormal numbers of float16, the multiples of 2**-24
    below 2**-14, to zero.
    """
    normal = lax.reduce_precision(values, exponent_bits=5, mantissa_bits=10)
    subnormal = jnp.round(values * 2.0**24) * 2.0**-24
    return jnp.where(jnp.abs(values) < 2.0**-14, subnormal, normal).astype(jnp.float32)


def _z_scores(
    images: Float[Array, "n h w c"],
    inside: Bool[Array, "n h w c"],
    axes: tuple[int, ...],
    *,
    robust: bool = False,
) -> Float[Array, "n h w c"]:
    """Clipped and z-scored over `axes` where `inside`; 0 elsewhere, and for constant values."""
    count = inside.sum(axes, keepdims=True)
    top = _percentile(images, inside, count, axes, PERCENTILE)
    clipped = jnp.where(inside, jnp.minimum(images.astype(jnp.float64), top), 0.0)
    mean = clipped.sum(axes, keepdims=True) / count
    # Centred before squaring: E[x^2] - E[x]^2 cancels for values far from zero.
    centred = jnp.where(inside, clipped - mean, 0.0)
    deviation = jnp.sqrt(jnp.square(centred).sum(axes, keepdims=True) / count)
    lowest = jnp.where(inside, images, jnp.inf).min(axes, keepdims=True)
    varies = (deviation > 0) & (lowest < top)
    if robust:
        # Of the clipped values, which are those of the images below the 99.5th percentile.
        low, middle, high = (_percentile(images, inside, count, axes, q) for q in (25, 50, 75))
        spread = (high - low) / IQR_OF_NORMAL
        deviation = jnp.where(spread > 0, spread, deviation)
        centred = jnp.minimum(images.astype(jnp.float64), top) - middle
        scores = centred / jnp.where(varies, deviation, 1.0)
        return jnp.where(inside & varies, jnp.clip(scores, -HALF_MAX, HALF_MAX), 0.0)
    return jnp.where(inside & varies, centred / jnp.where(varies, deviation, 1.0), 0.0)


def _percentile(
    images: jax.Array,
    inside: jax.Array,
    count: jax.Array,
    axes: tuple[int, ...],
    percent: float,
) -> jax.Array:
    """np.percentile(images[inside], percent) over `axes` (kept, as 1), in float64, to the bit.

    Finds the two values beside the percentile without sorting: a binary search over bit patterns,
    which are ordered like the numbers. Each of the 32 passes decides one bit by counting the
    smaller values, so that the number of values need not be known at compile time.
    """
    keys = jnp.where(inside, _ordered_bits(images), jnp.uint32(0xFFFFFFFF))
    rank = (count - 1).astype(jnp.float64) * (percent / 100.0)
    below = jnp.maximum(jnp.floor(rank).astype(count.dtype), 0)

    def fix_bit(step: jax.Array, found: jax.Array) -> jax.Array:
        trial = found | (jnp.uint32(1) << (jnp.uint32(31) - step.astype(jnp.uint32)))
        smaller = (keys < trial).sum(axes, keepdims=True)
        return jnp.where(smaller <= below, trial, found)

    key = lax.fori_loop(0, 32, fix_bit, jnp.zeros(count.shape, jnp.uint32))
    low = _number_of(key).astype(jnp.float64)
    up_to_low = (keys <= key).sum(axes, keepdims=True)
    next_key = jnp.where(keys > key, keys, jnp.uint32(0xFFFFFFFF)).min(axes, keepdims=True)
    above = _number_of(next_key).astype(jnp.float64)
    # The value at rank below + 1: a repetition, the next larger value, or none.
    repeats = (up_to_low >= below + 2) | (below + 1 >= count)
    high = jnp.where(repeats, low, above)
    fraction = rank - below
    # Interpolates from the nearer end, as NumPy does.
    from_low, from_high = low + (high - low) * fraction, high - (high - low) * (1.0 - fraction)
    return jnp.where(fraction < 0.5, from_low, from_high)


_SIGN = 0x80000000


def _ordered_bits(values: jax.Array) -> jax.Array:
    """uint32 keys in the order of the float32 values."""
    bits = lax.bitcast_convert_type(values, jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(_SIGN))


def _number_of(keys: jax.Array) -> jax.Array:
    """The inverse of `_ordered_bits`."""
    bits = jnp.where(keys >> 31 == 1, keys & jnp.uint32(_SIGN - 1), ~keys)
    return cast(jax.Array, lax.bitcast_convert_type(bits, jnp.float32))
