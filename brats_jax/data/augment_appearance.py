"""Bias fields, blur, resolution, brightness, contrast and curves of patches, by modality.

Each is decided for the example first, then for each channel, and the amounts differ by channel,
as in nnU-Net (https://arxiv.org/abs/1904.08128).
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

Images = Float[Array, "b h w c"]
ByChannel = Float[Array, "b c"]

SHADING_TERMS = 9  # u^i v^j with 0 < i + j <= 3
# Mean by standard deviation of the intensities of a brain, which a store does not keep: 2.2 to 7.9
# over the modalities of ten BraTS cases, their median 3.5.
MEAN_BY_SD = 3.5
_AIR = 1e-3  # air differs from the background by less, the rounding of an interpolation


def blurred(images: Images, sigma: ByChannel, largest: float) -> Images:
    """A Gaussian blur, separable; border pixels are repeated outside.

    Args:
      images: the patches.
      sigma: standard deviation in pixels of each channel; 0 leaves it as it is.
      largest: of all deviations; static. The kernel has 3 of them on each side.
    """
    radius = math.ceil(3 * largest)
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    spread = jnp.where(sigma > 0, sigma, 1.0)[..., None]
    weights = jnp.exp(-0.5 * (offsets / spread) ** 2)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    # Exactly the image where it is not blurred.
    weights = jnp.where(sigma[..., None] > 0, weights, jnp.where(offsets == 0, 1.0, 0.0))
    for axis in (1, 2):
        pad = [(radius, radius) if k == axis else (0, 0) for k in range(4)]
        padded = jnp.pad(images, pad, mode="edge")
        parts = (
            jax.lax.slice_in_dim(padded, k, k + images.shape[axis], axis=axis)
            * weights[:, None, None, :, k]
            for k in range(2 * radius + 1)
        )
        images = sum(parts, start=jnp.zeros_like(images))
    return images


def coarsened(images: Images, zoom: Float[Array, " b"], chosen: ByChannel) -> Images:
    """Low resolution: fewer pixels, by the nearest, and linear interpolation back.

    With zoom z a side of n pixels has round(n z) coarse ones; nnU-Net interpolates with cubic
    polynomials.

    Args:
      images: the patches.
      zoom: of each example, in (0, 1].
      chosen: bool, the channels that become coarse.
    """
    coarse = images
    for axis in (1, 2):
        extent = images.shape[axis]
        count = jnp.maximum(jnp.round(extent * zoom), 1)[:, None]
        place = (jnp.arange(extent) + 0.5) * count / extent - 0.5
        low = jnp.clip(jnp.floor(place), 0, count - 1)
        high = jnp.minimum(low + 1, count - 1)
        share = jnp.clip(place - low, 0.0, 1.0)

        def source(k: Array, count: Array = count, extent: int = extent) -> Array:
            centre = (k + 0.5) * extent / count - 0.5
            return jnp.clip(jnp.round(centre).astype(jnp.int32), 0, extent - 1)

        take = jax.vmap(lambda x, at, axis=axis: jnp.take(x, at, axis=axis - 1, mode="clip"))
        shape = [-1, 1, 1, 1]
        shape[axis] = extent
        weight = share.reshape(shape)
        coarse = take(coarse, source(low)) * (1 - weight) + take(coarse, source(high)) * weight
    return jnp.where(chosen[:, None, None, :], coarse, images)


def brightened(images: Images, factor: ByChannel, contrast: ByChannel) -> Images:
    """Brightness, then contrast about the mean within the range before.

        x' = factor * x,   x'' = clip(mean(x') + contrast * (x' - mean(x')), min(x'), max(x'))

    Args:
      images: the patches.
      factor, contrast: of each channel; 1 leaves it as it is.
    """
    images = images * factor[:, None, None, :]
    mean, low, high = (f(images, axis=(1, 2), keepdims=True) for f in (jnp.mean, jnp.min, jnp.max))
    by = contrast[:, None, None, :]
    return jnp.where(by == 1, images, jnp.clip(mean + by * (images - mean), low, high))


def curved(images: Images, power: ByChannel) -> Images:
    """A power of the intensities; mean and standard deviation stay.

        u = (x - min x) / (max x - min x),   v = u^power
        x' = mean(x) + sd(x) * (v - mean(v)) / sd(v)

    Means, deviations, minima and maxima are of each example and channel. A power above 1 sets
    bright tissue apart from the rest, one below 1 brings it nearer.

    Args:
      images: the patches.
      power: of each channel, above 0; 1 leaves it as it is.
    """
    by = power[:, None, None, :]
    low = jnp.min(images, axis=(1, 2), keepdims=True)
    extent = jnp.max(images, axis=(1, 2), keepdims=True) - low
    unit = (images - low) / jnp.where(extent > 0, extent, 1.0)
    raised = jnp.exp(by * jnp.log(unit))
    (mean, of_raised), (spread, raised_spread) = (
        [f(x, axis=(1, 2), keepdims=True) for x in (images, raised)] for f in (jnp.mean, jnp.std)
    )
    scale = spread / jnp.where(raised_spread > 0, raised_spread, 1.0)
    return jnp.where((by == 1) | (extent <= 0), images, mean + (raised - of_raised) * scale)


def shaded(images: Images, coefficients: Float[Array, "b k c"], background: ByChannel) -> Images:
    """A bias field: z-scored intensities as if those of the scan were times a smooth factor.

        x' = (x + MEAN_BY_SD) exp(sum_ij c_ij u^i v^j) - MEAN_BY_SD,   0 < i + j <= 3

    u and v are -1 and 1 at the first and the last row and column of the patch. Air stays.

    Args:
      images: the patches.
      coefficients: c_ij of each channel, in order of i + j, then of j; k = `SHADING_TERMS`. A
        channel without any keeps its bits.
      background: the value of air of each channel.
    """
    height, width = images.shape[1:3]
    row, column = jnp.linspace(-1, 1, height)[:, None], jnp.linspace(-1, 1, width)
    terms = jnp.stack(
        [row ** (order - j) * column**j for order in (1, 2, 3) for j in range(order + 1)]
    )
    field = jnp.einsum("bkc,khw->bhwc", coefficients, terms, precision=jax.lax.Precision.HIGHEST)
    still = is_air(images, background) | jnp.all(coefficients == 0, axis=1)[:, None, None, :]
    changed = (images + MEAN_BY_SD) * jnp.exp(field) - MEAN_BY_SD
    return jnp.where(still, images, changed)


def is_air(images: Images, background: ByChannel) -> Bool[Array, "b h w c"]:
    """Where patches have the value of air of their channel."""
    return jnp.abs(images - background.astype(images.dtype)[:, None, None, :]) < _AIR


def thick(
    images: Images, thickness: ByChannel, phase: ByChannel, across: Bool[Array, "b c"]
) -> Images:
    """As if imaged in thick slices that are cut across: means of strips, interpolated linearly.

    A strip is `thickness` pixels wide. The value of a pixel is interpolated between the means of
    the two strips whose centres are next to it.

    Args:
      images: the patches.
      thickness: in pixels, at least 1, of each channel; 1 leaves it as it is.
      phase: where the first strip begins, as a share of the thickness before the first pixel.
      across: whether strips follow each other along W, or else along H.
    """
    changed, exact = images, jax.lax.Precision.HIGHEST
    for axis, along in ((1, ~across), (2, across)):
        operator = _strip_means(images.shape[axis], thickness, phase)
        if axis == 1:
            moved = jnp.einsum("bcij,bjwc->biwc", operator, changed, precision=exact)
        else:
            moved = jnp.einsum("bcij,bhjc->bhic", operator, changed, precision=exact)
        chosen = along & (thickness > 1)
        changed = jnp.where(chosen[:, None, None, :], moved, changed)
    return changed


def _strip_means(
    extent: int, thickness: ByChannel, phase: ByChannel
) -> Float[Array, "b c extent extent"]:
    """The matrix of `thick` along one side."""
    place = (jnp.arange(extent) + 0.5) / thickness[..., None] + phase[..., None]
    strip = jnp.floor(place)
    first, last = strip[..., :1], strip[..., -1:]
    low = jnp.floor(place - 0.5)
    share = (place - 0.5 - low)[..., None]

    def mean_of(wanted: Array) -> Array:
        inside = strip[..., None, :] == jnp.clip(wanted, first, last)[..., None]
        return inside / inside.sum(axis=-1, keepdims=True)

    return mean_of(low) * (1 - share) + mean_of(low + 1) * share
