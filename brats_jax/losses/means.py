"""Means over the values that count, in float32 or wider: shared by the losses of both stages."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Scalar = Float[Array, ""]
Weights = Float[Array, "..."] | None


def at_least_float32(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Converts narrower types to float32; leaves float32 and float64 as they are."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def weighted_mean(values: Float[Array, "..."], weight: Weights = None) -> Scalar:
    """Mean of the values that count.

        sum w v / sum w;  0 where all weights are 0

    Args:
      values: of any shape.
      weight: 0 or 1, of a shape that broadcasts to theirs; None: 1 everywhere.
    """
    if weight is None:
        return values.mean()
    weight = jnp.broadcast_to(weight, values.shape)
    total = weight.sum()
    return (values * weight).sum() / jnp.where(total > 0, total, 1.0)
