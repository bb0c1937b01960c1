"""Rotation and scaling of patches on the device, in one gather with flips and quarter turns."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

NUMBERS = 4  # random numbers of an example: two decisions, an angle and a factor


class Affine(NamedTuple):
    """A rotation and a scaling about the centre of each patch.

    A pixel at (row, column) from the centre, in pixels, takes the image at

        (cosine * row - sine * column,  sine * row + cosine * column)

    Attributes:
      cosine, sine: float32[B], of the angle and divided by the factor of the scaling. 1 and 0 for
        a patch that stays as it is.
    """

    cosine: Float[Array, " b"]
    sine: Float[Array, " b"]


def drawn_affine(
    numbers: Float[Array, "b 4"],
    degrees: tuple[float, float] | None,
    factors: tuple[float, float] | None,
    probability: float,
) -> Affine:
    """The rotation and the scaling of each example, each with `probability`.

    Args:
      numbers: uniform in 0..1.
      degrees, factors: their ranges; None: never.
      probability: of each of the two.
    """

    def amount(place: int, bounds: tuple[float, float] | None, neutral: float) -> Array:
        if bounds is None:
            return jnp.full(numbers.shape[:1], neutral)
        drawn = bounds[0] + (bounds[1] - bounds[0]) * numbers[:, place + 1]
        return jnp.where(numbers[:, place] < probability, drawn, neutral)

    angle, factor = jnp.deg2rad(amount(0, degrees, 0.0)), amount(2, factors, 1.0)
    # Exact for the angle 0: a patch that is not turned keeps its bits.
    still = angle == 0
    cosine = jnp.where(still, 1.0, jnp.cos(angle))
    return Affine(cosine / factor, jnp.where(still, 0.0, jnp.sin(angle)) / factor)


class Positions(NamedTuple):
    """Where each pixel of a result comes from: float32[B, H, W] rows and columns."""

    row: Float[Array, "b h w"]
    column: Float[Array, "b h w"]


def positions(affine: Affine, row: Int[Array, "b h w"], column: Int[Array, "b h w"]) -> Positions:
    """The positions in a patch of pixels of its rotated and scaled version.

    Args:
      affine: of each example.
      row, column: pixels of the rotated and scaled patch.
    """
    height, width = row.shape[1:]
    middle, centre = (height - 1) / 2, (width - 1) / 2
    cosine, sine = affine.cosine[:, None, None], affine.sine[:, None, None]
    down, right = row - middle, column - centre
    return Positions(cosine * down - sine * right + middle, sine * down + cosine * right + centre)


def interpolated(
    x: Float[Array, "b h w c"], at: Positions, outside: Float[Array, "b c"]
) -> Float[Array, "b h w c"]:
    """Bilinear interpolation.

    Args:
      x: images.
      at: positions, in pixels.
      outside: values beyond half a pixel from the border pixels.
    """
    height, width = x.shape[1:3]
    row, column = (
        jnp.clip(place, 0.0, extent - 1.0)
        for place, extent in zip(at, (height, width), strict=True)
    )
    above, left = jnp.floor(row), jnp.floor(column)
    down, right = (row - above)[..., None], (column - left)[..., None]
    top, first = above.astype(jnp.int32), left.astype(jnp.int32)
    below, next_ = jnp.minimum(top + 1, height - 1), jnp.minimum(first + 1, width - 1)

    def along(row: Array) -> Array:
        return _fetched(x, row, first) * (1 - right) + _fetched(x, row, next_) * right

    values = along(top) * (1 - down) + along(below) * down
    return jnp.where(_inside(at, height, width)[..., None], values, outside[:, None, None, :])


def nearest(x: Int[Array, "b h w"], at: Positions) -> Int[Array, "b h w"]:
    """The nearest pixel of label maps, and 0 outside; arguments as of `interpolated`."""
    height, width = x.shape[1:]
    row, column = (
        jnp.clip(jnp.floor(place + 0.5).astype(jnp.int32), 0, extent - 1)
        for place, extent in zip(at, (height, width), strict=True)
    )
    return jnp.where(_inside(at, height, width), _fetched(x[..., None], row, column)[..., 0], 0)


def _inside(at: Positions, height: int, width: int) -> Array:
    inside = (at.row >= -0.5) & (at.row < height - 0.5)
    return inside & (at.column >= -0.5) & (at.column < width - 0.5)


def _fetched(x: Array, row: Array, column: Array) -> Array:
    batch, height, width, channels = x.shape
    pixels = x.reshape(batch, height * width, channels)
    fetch = jax.vmap(lambda p, at: p.at[at].get(mode="promise_in_bounds"))
    return fetch(pixels, (row * width + column).reshape(batch, -1)).reshape(x.shape)
