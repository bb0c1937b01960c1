"""Maps moved by pixels, for convolutions that add up shifted products."""

import jax
import numpy as np
from jax import lax


def shift(x: jax.Array, by: int, axis: int) -> jax.Array:
    """`x` moved by `by` pixels along an axis: zeros come in, and pixels past the edge are lost."""
    if not by:
        return x
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (by, -by, 0)
    return lax.pad(x, np.zeros((), x.dtype), widths)
