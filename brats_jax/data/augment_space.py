"""Geometry of patches on the device: flips, quarter turns, rotation and scaling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

_FLIP_H, _FLIP_W, _TURN = range(3)  # positions of the random numbers of a symmetry
NUMBERS = 4  # random numbers of an affine: two decisions, an angle and a factor


class Symmetry(NamedTuple):
    """A symmetry of the square for each example: transpose, then flip along H, then along W."""

    transpose: Bool[Array, " b"]
    flip_h: Bool[Array, " b"]
    flip_w: Bool[Array, " b"]


def symmetry_of(decisions: Float[Array, "b 3"], flip: bool, quarter_turn: bool) -> Symmetry:
    """The flips and the quarter turn of each example as one symmetry.

    Args:
      decisions: uniform in 0..1.
      flip: whether to mirror, along H and along W with probability 0.5 each.
      quarter_turn: whether to turn, by 0, 90, 180 or 270 degrees.
    """
    flip_h = (decisions[:, _FLIP_H] < 0.5) & flip
    flip_w = (decisions[:, _FLIP_W] < 0.5) & flip
    # Quarter turns anticlockwise, as numpy.rot90: 1 is a transpose and a flip along H, 2 both
    # flips, 3 a transpose and a flip along W.
    turns = jnp.floor(4 * decisions[:, _TURN]).astype(jnp.int32) * quarter_turn
    return Symmetry(turns % 2 == 1, flip_h ^ ((turns == 1) | (turns == 2)), flip_w ^ (turns >= 2))


def turned(x: Array, symmetry: Symmetry) -> Array:
    """Transposes and flips each example of [B, H, W, ...] by a gather of pixels.

    Not a selection between flipped copies: XLA:CPU would recompute the selection in each following
    operation, which takes five times as long as all intensity operations.
    """
    transpose, flip_h, flip_w = (s[:, None, None] for s in symmetry)
    batch, height, width = x.shape[:3]
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    row = jnp.where(flip_h, height - 1 - row, row)
    column = jnp.where(flip_w, width - 1 - column, column)
    source = jnp.where(transpose, column * width + row, row * width + column)
    return _gathered(x.reshape(batch, height * width, -1), source).reshape(x.shape)


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
    """The nearest pixel of label maps, and 0 outside; arguments as in `interpolated`."""
    height, width = x.shape[1:]
    row, column = (
        jnp.clip(jnp.floor(place + 0.5).astype(jnp.int32), 0, extent - 1)
        for place, extent in zip(at, (height, width), strict=True)
    )
    return jnp.where(_inside(at, height, width), _fetched(x[..., None], row, column)[..., 0], 0)


def moved(
    images: Array,
    targets: Array | None,
    labels: Array | None,
    symmetry: Symmetry,
    affine: Affine,
    background: Array | np.ndarray,
    target_background: Array | np.ndarray | None,
) -> tuple[Array, Array | None, Array | None]:
    """Rotates, scales, transposes and flips, in one interpolation.

    Args:
      images, targets, labels: as in `augment.augment`.
      symmetry, affine: of each example.
      background, target_background: values outside the patches, [B, C] and [B, T].
    """
    at = positions(affine, *_sources(images.shape[:3], symmetry))
    x, outside = images.astype(jnp.float32), jnp.asarray(background, jnp.float32)
    if targets is not None:
        # One gather for both.
        x = jnp.concatenate([x, targets.astype(jnp.float32)], axis=-1)
        others = jnp.asarray(target_background, jnp.float32)
        outside = jnp.concatenate([outside, others], axis=-1)
    result = interpolated(x, at, outside)
    channels = images.shape[3]
    return (
        result[..., :channels].astype(images.dtype),
        None if targets is None else result[..., channels:].astype(targets.dtype),
        None if labels is None else nearest(labels, at),
    )


def _sources(shape: tuple[int, ...], symmetry: Symmetry) -> tuple[Array, Array]:
    """int32[B, H, W]: row and column that each pixel of a transposed and flipped patch is from."""
    transpose, flip_h, flip_w = (s[:, None, None] for s in symmetry)
    _, height, width = shape
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    row = jnp.where(flip_h, height - 1 - row, row)
    column = jnp.where(flip_w, width - 1 - column, column)
    row, column = jnp.where(transpose, column, row), jnp.where(transpose, row, column)
    return jnp.broadcast_to(row, shape), jnp.broadcast_to(column, shape)


def _inside(at: Positions, height: int, width: int) -> Array:
    inside = (at.row >= -0.5) & (at.row < height - 0.5)
    return inside & (at.column >= -0.5) & (at.column < width - 0.5)


def _fetched(x: Array, row: Array, column: Array) -> Array:
    batch, height, width, channels = x.shape
    pixels = x.reshape(batch, height * width, channels)
    return _gathered(pixels, row * width + column).reshape(x.shape)


def _gathered(pixels: Array, at: Array) -> Array:
    """pixels[b, at[b]] of each example: [B, n, C] at positions [B, ...]."""
    fetch = jax.vmap(lambda p, at: p.at[at].get(mode="promise_in_bounds"))
    return fetch(pixels, at.reshape(len(at), -1))
