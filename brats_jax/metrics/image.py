"""Likeness of a reconstructed image to the real one: MSE, PSNR, SSIM, and their ranges.

Images are [B, H, W]; every metric takes an optional region. A constant background is
reproduced for nothing and lifts PSNR and SSIM of a whole slice, so the brain and the tumour
are worth measuring by themselves.
"""

import math
from numbers import Real

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from brats_jax.errors import BratsError

# Rules for the intensity range R in PSNR and SSIM; any positive number is a fixed range.
RANGE_RULES: dict[str, str] = {
    # What the paper must have done: its MSE and PSNR together imply R = 5.7 to 6.4 by fold,
    # which no fixed number gives on z-scored slices.
    "target": "maximum - minimum of each real slice",
}

# scikit-image's defaults, and those of Wang et al.
_WINDOW = 7
_K1, _K2 = 0.01, 0.03

Images = Float[Array | np.ndarray, "b h w"]
Regions = Bool[Array | np.ndarray, "b h w"]
PerImage = Float[Array, " b"]


def data_range(target: Images, rule: str | float | int = "target") -> PerImage:
    """Intensity range R of each slice, under a named rule or a fixed number.

    Args:
      target: float[B, H, W], the real images.
      rule: a name in `RANGE_RULES`, or a positive number used for every slice.

    Returns:
      float32[B]; 0 for a constant slice under "target", where PSNR and SSIM are NaN.

    Raises:
      BratsError: the rule is neither a known name nor a positive finite number.
    """
    if rule == "target":
        values = jnp.asarray(target, jnp.float32)
        return jnp.max(values, axis=(1, 2)) - jnp.min(values, axis=(1, 2))
    if isinstance(rule, Real) and not isinstance(rule, bool):
        fixed = float(rule)
        if fixed > 0 and math.isfinite(fixed):
            return jnp.full(target.shape[:1], fixed, jnp.float32)
    raise BratsError(
        f"unknown data range rule {rule!r}; give a positive number or one of: "
        f"{', '.join(RANGE_RULES)}"
    )


@jax.jit
def mse(prediction: Images, target: Images, mask: Regions | None = None) -> PerImage:
    """Mean squared error of each image.

        MSE = mean_i (prediction_i - target_i)^2

    Args:
      prediction, target: float[B, H, W].
      mask: bool[B, H, W], the pixels to average over; all of them by default.

    Returns:
      float32[B] in squared units of the images; NaN where the mask is empty.

    Raises:
      BratsError: shapes differ.
    """
    _check_shapes(prediction, target, mask)
    difference = jnp.asarray(prediction, jnp.float32) - jnp.asarray(target, jnp.float32)
    return _mean(jnp.square(difference), mask)


@jax.jit
def psnr(
    prediction: Images,
    target: Images,
    data_range: float | Float[Array | np.ndarray, ""] | Float[Array | np.ndarray, " b"],
    mask: Regions | None = None,
) -> PerImage:
    """Peak signal-to-noise ratio of each image.

        PSNR = 20 log10(R) - 10 log10(MSE)

    Args:
      prediction, target: float[B, H, W].
      data_range: R, a number or float[B]; see the function of that name.
      mask: bool[B, H, W], the pixels that MSE is averaged over; R stays as given.

    Returns:
      float32[B] in dB; infinite where the images are identical, NaN where R = 0 (a constant
      slice under the "target" rule) or the mask is empty.

    Raises:
      BratsError: shapes differ.
    """
    ranges = _ranges(data_range, target)
    decibels = 20 * jnp.log10(ranges) - 10 * jnp.log10(mse(prediction, target, mask))
    return jnp.where(ranges > 0, decibels, jnp.nan)


@jax.jit
def ssim(
    prediction: Images,
    target: Images,
    data_range: float | Float[Array | np.ndarray, ""] | Float[Array | np.ndarray, " b"],
    mask: Regions | None = None,
) -> PerImage:
    """Structural similarity of each image, as scikit-image computes it by default.

        SSIM = mean of (2 m_x m_y + C1)(2 c_xy + C2) / ((m_x^2 + m_y^2 + C1)(v_x + v_y + C2))

    over 7 x 7 windows with uniform weights, sample (co)variances, C1 = (0.01 R)^2 and
    C2 = (0.03 R)^2; only windows that lie in the image count, so a margin of 3 pixels does not.

    Args:
      prediction, target: float[B, H, W], H and W at least 7.
      data_range: R, a number or float[B]; see the function of that name.
      mask: bool[B, H, W], the window centres to average over; windows still see their
        surroundings. All centres by default.

    Returns:
      float32[B], at most 1; NaN where R = 0 (a constant slice under the "target" rule) or
      where the mask is empty within the margin.

    Raises:
      BratsError: shapes differ, or an image is smaller than the window.

    Reference: Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861;
    https://scikit-image.org/docs/stable/api/skimage.metrics.html
    """
    _check_shapes(prediction, target, mask)
    if min(target.shape[1:]) < _WINDOW:
        raise BratsError(
            f"images of {target.shape[1]} x {target.shape[2]} are smaller than SSIM's "
            f"{_WINDOW} x {_WINDOW} window"
        )
    ranges = _ranges(data_range, target)[:, None, None]
    c1, c2 = jnp.square(_K1 * ranges), jnp.square(_K2 * ranges)
    x, y = jnp.asarray(prediction, jnp.float32), jnp.asarray(target, jnp.float32)
    offset = jnp.mean(y, axis=(1, 2), keepdims=True)
    x, y, xx, yy, xy = _window_moments(x - offset, y - offset)
    # 2 m_x m_y + C1 over m_x^2 + m_y^2 + C1, in the form that an offset does not swamp.
    luminance = 1 - jnp.square(x - y) / (jnp.square(x + offset) + jnp.square(y + offset) + c1)
    structure = (2 * xy + c2) / (xx + yy + c2)
    margin = _WINDOW // 2
    inner = None if mask is None else mask[:, margin:-margin, margin:-margin]
    return jnp.where(ranges[:, 0, 0] > 0, _mean(luminance * structure, inner), jnp.nan)


def _window_moments(
    x: Float[Array, "b h w"], y: Float[Array, "b h w"]
) -> tuple[Float[Array, "b i j"], ...]:
    """Means, sample variances and sample covariance of x and y in every 7 x 7 window.

    E[x^2] - E[x]^2 loses its digits in float32 where a slice is flat and not 0: errors of
    1e-5 in SSIM, more than 1e-4 in single windows. Here the values of every window are
    centred by its own mean, first along W; then the segments are pooled along H as Chan,
    Golub & LeVeque do, https://doi.org/10.1080/00031305.1983.10483115.
    """
    n = _WINDOW
    row_x, row_y = _window_sums(x, 2) / n, _window_sums(y, 2) / n
    x_mean, y_mean = _window_sums(row_x, 1) / n, _window_sums(row_y, 1) / n
    within = _centred_squares(x, y, row_x, row_y, 2)
    between = _centred_squares(row_x, row_y, x_mean, y_mean, 1)
    covariances = (
        (_window_sums(w, 1) + n * b) / (n * n - 1) for w, b in zip(within, between, strict=True)
    )
    return x_mean, y_mean, *covariances


def _window_sums(values: Float[Array, "b h w"], axis: int) -> Float[Array, "b i j"]:
    # XLA does not fuse through reduce_window; sums of slices here would be recomputed in
    # every window of the next pass.
    window = [_WINDOW if i == axis else 1 for i in range(3)]
    return jax.lax.reduce_window(values, np.float32(0), jax.lax.add, window, (1, 1, 1), "VALID")


def _centred_squares(
    x: Float[Array, "b h w"],
    y: Float[Array, "b h w"],
    x_mean: Float[Array, "b i j"],
    y_mean: Float[Array, "b i j"],
    axis: int,
) -> tuple[Float[Array, "b i j"], ...]:
    """Sums of (x - m_x)^2, (y - m_y)^2 and (x - m_x)(y - m_y) over windows along one axis."""
    xx = yy = xy = jnp.zeros_like(x_mean)
    for i in range(_WINDOW):
        dx = jax.lax.slice_in_dim(x, i, i + x_mean.shape[axis], axis=axis) - x_mean
        dy = jax.lax.slice_in_dim(y, i, i + x_mean.shape[axis], axis=axis) - y_mean
        xx, yy, xy = xx + dx * dx, yy + dy * dy, xy + dx * dy
    return xx, yy, xy


def _mean(values: Images, mask: Regions | None) -> PerImage:
    """Mean of each image over a mask: rows first, so that float32 keeps its digits."""
    if mask is None:
        return jnp.mean(jnp.mean(values, axis=2), axis=1)
    total = jnp.sum(jnp.sum(jnp.where(mask, values, 0.0), axis=2), axis=1)
    return total / jnp.sum(mask, axis=(1, 2), dtype=jnp.int32)


def _ranges(data_range: object, target: Images) -> PerImage:
    ranges = jnp.asarray(data_range, jnp.float32)
    if ranges.shape not in ((), target.shape[:1]):
        raise BratsError(
            f"data_range {ranges.shape} must be one number or one for each of the "
            f"{target.shape[0]} images"
        )
    return jnp.broadcast_to(ranges, target.shape[:1])


def _check_shapes(prediction: Images, target: Images, mask: Regions | None) -> None:
    shapes = [prediction.shape, target.shape, *([] if mask is None else [mask.shape])]
    if len(set(shapes)) > 1 or target.ndim != 3:
        raise BratsError(
            f"prediction, target and mask must share one shape [B, H, W], got "
            f"{', '.join(map(str, shapes))}"
        )
