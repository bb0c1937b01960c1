"""Distances between boundaries on an accelerator: exact, jitted, batched, in bounded memory.

A separable distance transform in its min-plus form, and order statistics by bisection.

Reference: Felzenszwalb & Huttenlocher 2012, https://doi.org/10.4086/toc.2012.v008a019
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

# A distance that exceeds a tolerance by rounding alone counts as within it.
ROUNDING = 1e-6

# Most pairs of masks, and most of their pixels, in one pass: they bound the memory.
PAIRS = 64
_PIXELS = 64 * 240 * 240
# Rows that one pass of the transform compares.
_ROWS = 16
# Distance, in pixels, that stands for "no boundary in this row"; its square is finite.
_FAR = 1e9

Masks = Bool[Array | np.ndarray, "n *space"]
Distances = Float[Array, "n *space"]


def interior(padded, dims: int):  # type: ignore[no-untyped-def]  # numpy or jax arrays alike
    """Erosion by the cross over the last `dims` axes, of masks padded by one pixel of False."""
    inner, result = [slice(1, -1)] * dims, None
    for axis in range(dims):
        for side in (slice(None, -2), slice(2, None)):
            neighbour = padded[(..., *inner[:axis], side, *inner[axis + 1 :])]
            result = neighbour if result is None else result & neighbour
    return result


def boundary(masks: Bool[Array | np.ndarray, "..."], dims: int) -> Bool[Array, "..."]:
    """Pixels of masks, over the last `dims` axes, that touch the outside."""
    masks = jnp.asarray(masks, bool)
    padded = jnp.pad(masks, [(0, 0)] * (masks.ndim - dims) + [(1, 1)] * dims)
    return masks & ~interior(padded, dims)


@jax.jit
def statistics(
    prediction: Masks,
    target: Masks,
    spacing_mm: Float[Array | np.ndarray, " d"],
    tolerance_mm: float | Float[Array | np.ndarray, ""],
) -> tuple[Array, ...]:
    """The fields of `surface.SurfaceStatistics` for every pair: nine arrays [N]."""
    # Passes of equal size: JAX would compile a shorter last one again.
    pairs, space = len(prediction), prediction.shape[1:]
    limit = max(1, min(PAIRS, _PIXELS // max(1, math.prod(space))))
    passes = max(1, -(-pairs // limit))
    size = -(-pairs // passes)

    def split(masks: Masks) -> Bool[Array, "p s ..."]:
        padding = ((0, passes * size - pairs), *((0, 0) for _ in space))
        return jnp.pad(jnp.asarray(masks, bool), padding).reshape(passes, size, *space)

    one = partial(
        _pair,
        spacing_mm=jnp.asarray(spacing_mm, jnp.float32),
        limit_mm=jnp.asarray(tolerance_mm, jnp.float32) * (1 + ROUNDING),
    )
    values = jax.lax.map(jax.vmap(one), (split(prediction), split(target)))
    return tuple(x.reshape(-1)[:pairs] for x in values)


def _pair(
    pair: tuple[Bool[Array, "*space"], Bool[Array, "*space"]],
    spacing_mm: Float[Array, " d"],
    limit_mm: Float[Array, ""],
) -> tuple[Array, ...]:
    dims = pair[0].ndim
    surfaces = boundary(jnp.stack(pair), dims)
    space = tuple(range(1, dims + 1))
    n_pred, n_gt = jnp.sum(surfaces, axis=space, dtype=jnp.int32)
    to_other = jnp.sqrt(_squared_distances(surfaces[::-1], spacing_mm))
    sums = jnp.where(surfaces, to_other, 0.0)
    for _ in space:  # row by row: one float32 sum over all pixels would lose digits
        sums = jnp.sum(sums, axis=-1)
    both = (n_pred > 0) & (n_gt > 0)
    within = jnp.sum(surfaces & (to_other <= limit_mm), axis=space, dtype=jnp.int32)
    sums, percentiles = (
        jnp.where(both, x, jnp.nan) for x in (sums, _percentiles_95(to_other, surfaces))
    )
    within = jnp.where(both, within, 0)
    return sums[0], n_pred, sums[1], n_gt, *percentiles, within[0], within[1]


def _squared_distances(points: Masks, spacing_mm: Float[Array, " d"]) -> Distances:
    """Squared distance in mm^2 of every pixel to the nearest of `points`.

        d^2(i, j) = min_i' [ (s_H (i - i'))^2 + (s_W min_{j' in row i'} |j - j'|)^2 ]

    and the minimum over i' again along a third axis.
    """
    last = points.ndim - 1
    position = jnp.arange(points.shape[last], dtype=jnp.float32)
    left = jax.lax.cummax(jnp.where(points, position, -_FAR), axis=last)
    right = jax.lax.cummin(jnp.where(points, position, _FAR), axis=last, reverse=True)
    squared = jnp.square(spacing_mm[-1] * jnp.minimum(position - left, right - position))
    for axis in range(last - 1, 0, -1):
        n = points.shape[axis]
        lines = squared.reshape(math.prod(points.shape[:axis]), n, -1)
        squared = _nearest_along(lines, spacing_mm[axis - 1]).reshape(points.shape)
    return squared


def _nearest_along(
    squared: Float[Array, "b n m"], spacing_mm: Float[Array, ""]
) -> Float[Array, "b n m"]:
    """min_i' [ (s (i - i'))^2 + squared(i') ] along the middle axis.

    The minimum over i' runs in blocks of rows: one reduction over [n, n', m] is five times
    slower on XLA:CPU, which writes that array.
    """
    batch, n, m = squared.shape
    blocks = -(-n // _ROWS)
    padding = blocks * _ROWS - n
    padded = jnp.pad(squared, ((0, 0), (0, padding), (0, 0)), constant_values=jnp.inf)
    rows = jnp.arange(n + padding, dtype=jnp.float32)
    between_rows = jnp.square(spacing_mm * (rows[:, None] - rows[None, :n]))

    def nearer(
        best: Float[Array, "b n m"],
        block: tuple[Float[Array, "r b m"], Float[Array, "r n"]],
    ) -> tuple[Float[Array, "b n m"], None]:
        for across, along in zip(*block, strict=True):
            best = jnp.minimum(best, along[None, :, None] + across[:, None, :])
        return best, None

    best, _ = jax.lax.scan(
        nearer,
        jnp.full((batch, n, m), jnp.inf, jnp.float32),
        (
            jnp.moveaxis(padded, 1, 0).reshape(blocks, _ROWS, batch, m),
            between_rows.reshape(blocks, _ROWS, n),
        ),
    )
    return best


def _percentiles_95(distances: Distances, surfaces: Masks) -> Float[Array, " 3"]:
    """95th percentiles of the first mask's distances, the second's, and both together.

    Non-negative floats have the order of their bits as integers. So an order statistic is found
    bit by bit from a count of the smaller values, for all three at once: 31 passes over the
    pixels, which take less time than a sort and no memory.
    """
    bits = jax.lax.bitcast_convert_type(distances, jnp.int32)
    bits = jnp.where(surfaces, bits, jnp.iinfo(jnp.int32).max).reshape(2, -1)

    def below(limit: Int[Array, " 3"]) -> Int[Array, " 3"]:
        first, second = jnp.sum(bits < limit[:2, None], axis=1, dtype=jnp.int32)
        return jnp.stack([first, second, jnp.sum(bits < limit[2], dtype=jnp.int32)])

    count = below(jnp.full(3, jnp.iinfo(jnp.int32).max))
    rank, hundredths = jnp.divmod(95 * (count - 1), 100)

    def set_bit(i: Int[Array, ""], found: Int[Array, " 3"]) -> Int[Array, " 3"]:
        candidate = found | (1 << (30 - i))
        return jnp.where(below(candidate) <= rank, candidate, found)

    low = jax.lax.fori_loop(0, 31, set_bit, jnp.zeros(3, jnp.int32))
    above = [jnp.where(bits > x, bits, jnp.iinfo(jnp.int32).max) for x in low]
    next_one = jnp.stack([above[0][0].min(), above[1][1].min(), above[2].min()])
    high = jnp.where(below(low + 1) > rank + 1, low, next_one)
    low, high = (jax.lax.bitcast_convert_type(x, jnp.float32) for x in (low, high))
    return jnp.where(hundredths > 0, low + (high - low) * (hundredths / 100), low)
