"""Similarity of a predicted image to the real one: MSE, PSNR, SSIM, and intensity ranges.

Images are slices [B, H, W] or volumes [B, D, H, W]; every metric takes an optional region. A
constant background is easy to predict and raises PSNR and SSIM of a whole image, so evaluation
also measures the brain and the tumour alone.
"""

import math
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from brats_jax.errors import BratsError
from brats_jax.metrics import image_ssim_cpu
from brats_jax.runtime import forms

# Rules for the intensity range R in PSNR and SSIM, in words for captions.
#
# The paper calls R "the maximum possible pixel intensity" and gives no number. Its MSE and PSNR
# together imply R = 5.7 to 6.4 by fold, so R is from the data, by one of the first two rules.
RANGE_RULES: dict[str, str] = {
    "target": "maximum - minimum of each real slice",
    "target_max": "maximum of each real slice",
    "fixed": "one given number for every slice",
}


class _Window(NamedTuple):
    """Weights of a separable window along one axis; whether (co)variances are a sample's."""

    weights: np.ndarray
    of_a_sample: bool

    def scale(self, axes: int) -> float:
        """Factor of the (co)variances: n / (n - 1) for a sample of n pixels, else 1."""
        pixels = len(self.weights) ** axes
        return pixels / (pixels - 1) if self.of_a_sample else 1.0


def _gaussian(taps: int, sigma: float) -> np.ndarray:
    weights = np.exp(-0.5 * (np.arange(taps) - taps // 2) ** 2 / sigma**2)
    return weights / weights.sum()


_WINDOWS: dict[str, _Window] = {
    "uniform7": _Window(np.full(7, 1 / 7), True),
    "gaussian11": _Window(_gaussian(11, 1.5), False),
}

# Windows of SSIM, in words for captions.
SSIM_WINDOWS: dict[str, str] = {
    "uniform7": "7 x 7 uniform, sample covariance (scikit-image's default)",
    "gaussian11": "11 x 11 Gaussian, sigma 1.5 (Wang et al., MONAI, torchmetrics)",
}

_K1, _K2 = 0.01, 0.03  # of Wang et al., the default of every library

Images = Float[Array | np.ndarray, "b *space"]  # space: h w, or d h w
Regions = Bool[Array | np.ndarray, "b *space"]
PerImage = Float[Array, " b"]
_Values = Float[Array, "b *space"]
_Windows = Float[Array, "b *inner"]  # one value for each window that lies in the image


def data_range(
    target: Images, rule: str | float | int = "target", fixed: float | int | None = None
) -> PerImage:
    """Intensity range R of each image, under a named rule or a fixed number.

    Args:
      target: float[B, H, W] or [B, D, H, W], the real images.
      rule: a name in `RANGE_RULES`, or a positive number, which means "fixed" with that number.
      fixed: the range under the rule "fixed", the same for every image.

    Returns:
      float32[B]; 0 for a constant image under "target", where PSNR and SSIM are NaN, as they
      are under "target_max" where nothing is above 0.

    Raises:
      BratsError: the rule is neither a known name nor a positive finite number, or the number
        is missing under "fixed" or given under another rule.
    """
    named = isinstance(rule, str) and rule in RANGE_RULES
    if named and (rule == "fixed") != (fixed is not None):
        raise BratsError(
            f"data range rule '{rule}' with fixed={fixed}: give a number with the rule 'fixed', "
            "and with no other"
        )
    if named and rule != "fixed":
        values = jnp.asarray(target, jnp.float32)
        space = tuple(range(1, values.ndim))
        highest = jnp.max(values, axis=space)
        return highest if rule == "target_max" else highest - jnp.min(values, axis=space)
    number = fixed if rule == "fixed" else rule
    if (
        isinstance(number, Real)
        and not isinstance(number, bool)
        and 0 < float(number) < math.inf  # NaN is not
    ):
        return jnp.full(target.shape[:1], float(number), jnp.float32)
    raise BratsError(
        f"unknown data range rule {number!r}; give a positive number or one of: "
        f"{', '.join(RANGE_RULES)}"
    )


@jax.jit
def mse(prediction: Images, target: Images, mask: Regions | None = None) -> PerImage:
    """Mean squared error of each image.

        MSE = mean_i (prediction_i - target_i)^2

    Args:
      prediction, target: float[B, H, W] or [B, D, H, W].
      mask: bool, of their shape, the pixels to average over; all of them by default.

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
      prediction, target: float[B, H, W] or [B, D, H, W].
      data_range: R, a number or float[B]; see the function of that name.
      mask: bool, of their shape, the pixels that MSE is averaged over; R stays as given.

    Returns:
      float32[B] in dB; infinite where the images are identical, NaN where R = 0 (a constant
      image under the "target" rule) or the mask is empty.

    Raises:
      BratsError: shapes differ.
    """
    ranges = _ranges(data_range, target)
    decibels = 20 * jnp.log10(ranges) - 10 * jnp.log10(mse(prediction, target, mask))
    return jnp.where(ranges > 0, decibels, jnp.nan)


def ssim(
    prediction: Images,
    target: Images,
    data_range: float | Float[Array | np.ndarray, ""] | Float[Array | np.ndarray, " b"],
    mask: Regions | None = None,
    window: str = "uniform7",
) -> PerImage:
    """Structural similarity (SSIM) of each image; the defaults are scikit-image's.

        SSIM = mean of (2 m_x m_y + C1)(2 c_xy + C2) / ((m_x^2 + m_y^2 + C1)(v_x + v_y + C2))

    over windows, with C1 = (0.01 R)^2 and C2 = (0.03 R)^2. Windows of "uniform7" are 7 x 7 (in
    volumes 7 x 7 x 7) with uniform weights and sample (co)variances. Windows of "gaussian11" are
    11 x 11 (x 11) with Gaussian weights of sigma 1.5 and (co)variances under those weights:
    scikit-image's gaussian_weights=True, sigma=1.5, use_sample_covariance=False, and the default
    of MONAI and torchmetrics. Only windows inside the image count, so a margin of 3 or 5 pixels
    is left out.

    Outside of compiled functions "uniform7" takes a form that is five times as fast on a CPU
    (`image_ssim_cpu`); "gaussian11", compiled functions and accelerators take
    `ssim_of_centred_windows`.

    Args:
      prediction, target: float[B, H, W] or [B, D, H, W], every side at least 7 or 11.
      data_range: R, a number or float[B]; see the function of that name.
      mask: bool, of their shape, the window centres to average over, such as the brain or the
        tumour; windows reach beyond it. All centres by default.
      window: a name in `SSIM_WINDOWS`.

    Returns:
      float32[B], at most 1; NaN where R is not above 0 (a constant image under the "target"
      rule) or where the mask is empty within the margin.

    Raises:
      BratsError: shapes differ, an image is smaller than the window, or there is no such window.

    Reference: Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861;
    https://scikit-image.org/docs/stable/api/skimage.metrics.html
    """
    _check_shapes(prediction, target, mask)
    if window not in _WINDOWS:
        raise BratsError(f"unknown SSIM window '{window}'; valid names: {', '.join(_WINDOWS)}")
    size = len(_WINDOWS[window].weights)
    if min(target.shape[1:]) < size:
        sides = [" x ".join(map(str, n)) for n in (target.shape[1:], [size] * (target.ndim - 1))]
        raise BratsError(f"images of {sides[0]} are smaller than SSIM's {sides[1]} window")
    given = (prediction, target, data_range, *([] if mask is None else [mask]))
    traced = any(isinstance(array, jax.core.Tracer) for array in given)
    fast = window == "uniform7" and forms.on_cpu() and not traced and not forms.plain("ssim")
    if fast:
        x, y = np.asarray(prediction, np.float32), np.asarray(target, np.float32)
        region = None if mask is None else np.asarray(mask, bool)
        ranges = _ranges(data_range, y, np)
        found, doubtful = image_ssim_cpu.ssim_uniform(x, y, ranges, region, _K1**2, _K2**2)
        if not doubtful.any():
            return jnp.asarray(found)
        exact = ssim_of_centred_windows(x, y, jnp.asarray(ranges), region, window)
        return jnp.where(doubtful, exact, found)
    return ssim_of_centred_windows(prediction, target, _ranges(data_range, target), mask, window)


@partial(jax.jit, static_argnames="window")
def ssim_of_centred_windows(
    prediction: Images, target: Images, ranges: PerImage, mask: Regions | None, window: str
) -> PerImage:
    """The plain form of `ssim`, which checks the arguments; `ranges` is float32[B]."""
    windows = ssim_map(prediction, target, ranges, window)
    inner = None if mask is None else window_centres(jnp.asarray(mask), window)
    return jnp.where(ranges > 0, _mean(windows, inner), jnp.nan)


def ssim_map(
    prediction: Images, target: Images, ranges: PerImage, window: str = "uniform7"
) -> _Windows:
    """SSIM of every window inside the images, which `ssim` averages; differentiable.

    Args:
      prediction, target: float[B, H, W] or [B, D, H, W].
      ranges: float32[B], R of each image, above 0.
      window: a name in `SSIM_WINDOWS`.

    Returns:
      float32[B, H - t, W - t] with t = 6 for "uniform7" and 10 for "gaussian11".
    """
    wide = jnp.expand_dims(ranges, tuple(range(1, target.ndim)))
    c1, c2 = jnp.square(_K1 * wide), jnp.square(_K2 * wide)
    x, y = jnp.asarray(prediction, jnp.float32), jnp.asarray(target, jnp.float32)
    offset = jnp.mean(y, axis=tuple(range(1, y.ndim)), keepdims=True)
    x, y, xx, yy, xy = _window_moments(x - offset, y - offset, _WINDOWS[window])
    # 2 m_x m_y + C1 over m_x^2 + m_y^2 + C1, in the form that an offset does not swamp.
    luminance = 1 - jnp.square(x - y) / (jnp.square(x + offset) + jnp.square(y + offset) + c1)
    structure = (2 * xy + c2) / (xx + yy + c2)
    return luminance * structure


def window_centres(values: jax.Array, window: str = "uniform7") -> jax.Array:
    """The pixels of [B, H, W] or [B, D, H, W] that are centres of windows; see `ssim_map`."""
    margin = len(_WINDOWS[window].weights) // 2
    return values[(slice(None), *[slice(margin, -margin)] * (values.ndim - 1))]


def _window_moments(x: _Values, y: _Values, window: _Window) -> tuple[_Windows, ...]:
    """Means, variances and covariance of x and y in every window.

    E[x^2] - E[x]^2 loses its digits in float32 where an image is flat and not 0: errors of
    1e-5 in SSIM, more than 1e-4 in single windows. Here the values of every window are
    centred by its own mean along the last axis, and the segments pooled along the other axes.

    Reference: Chan, Golub & LeVeque 1983, https://doi.org/10.1080/00031305.1983.10483115
    """
    weights = window.weights
    moments: tuple[Array, ...] = ()
    for axis in reversed(range(1, x.ndim)):
        x_mean, y_mean = _window_means(x, axis, weights), _window_means(y, axis, weights)
        between = _centred_squares(x, y, x_mean, y_mean, axis, weights)
        within = [_window_means(m, axis, weights) for m in moments]
        moments = tuple(w + b for w, b in zip(within, between, strict=True)) if within else between
        x, y = x_mean, y_mean
    return x, y, *(moment * window.scale(x.ndim - 1) for moment in moments)


def _window_means(values: _Values, axis: int, weights: np.ndarray) -> _Windows:
    # XLA does not fuse these two forms into the next pass. It would fuse sums of slices, and
    # compute them again in every window.
    taps = len(weights)
    if np.ptp(weights) == 0:
        window = [taps if i == axis else 1 for i in range(values.ndim)]
        sums = jax.lax.reduce_window(
            values, np.float32(0), jax.lax.add, window, [1] * values.ndim, "VALID"
        )
        return sums / taps
    band = np.zeros((values.shape[axis], values.shape[axis] - taps + 1), np.float32)
    for i, weight in enumerate(weights):
        np.fill_diagonal(band[i:], weight)
    # HIGHEST is float32; accelerators round products to fewer digits by default.
    means = jnp.tensordot(values, band, (axis, 0), precision=jax.lax.Precision.HIGHEST)
    return jnp.moveaxis(means, -1, axis)


def _centred_squares(
    x: _Values,
    y: _Values,
    x_mean: _Windows,
    y_mean: _Windows,
    axis: int,
    weights: np.ndarray,
) -> tuple[_Windows, ...]:
    """Means of (x - m_x)^2, (y - m_y)^2 and (x - m_x)(y - m_y) over windows along one axis."""
    xx = yy = xy = jnp.zeros_like(x_mean)
    largest = float(weights.max())  # uniform weights become 1, and XLA drops the product
    for i, weight in enumerate((weights / largest).tolist()):
        dx = jax.lax.slice_in_dim(x, i, i + x_mean.shape[axis], axis=axis) - x_mean
        dy = jax.lax.slice_in_dim(y, i, i + x_mean.shape[axis], axis=axis) - y_mean
        xx, yy, xy = xx + weight * dx * dx, yy + weight * dy * dy, xy + weight * dx * dy
    return largest * xx, largest * yy, largest * xy


def _mean(values: Images, mask: Regions | None) -> PerImage:
    """Mean of each image over a mask, axis by axis, which keeps float32's digits."""
    totals = jnp.asarray(values) if mask is None else jnp.where(mask, values, 0.0)
    add = jnp.mean if mask is None else jnp.sum
    for axis in reversed(range(1, values.ndim)):
        totals = add(totals, axis=axis)
    if mask is None:
        return totals
    return totals / jnp.sum(mask, axis=tuple(range(1, mask.ndim)), dtype=jnp.int32)


def _ranges(data_range: Any, target: Images, namespace: Any = jnp) -> Any:
    ranges = namespace.asarray(data_range, np.float32)
    if ranges.shape not in ((), target.shape[:1]):
        raise BratsError(
            f"data_range {ranges.shape} must be one number or one for each of the "
            f"{target.shape[0]} images"
        )
    return namespace.broadcast_to(ranges, target.shape[:1])


def _check_shapes(prediction: Images, target: Images, mask: Regions | None) -> None:
    shapes = [prediction.shape, target.shape, *([] if mask is None else [mask.shape])]
    if len(set(shapes)) > 1 or target.ndim not in (3, 4):
        raise BratsError(
            f"prediction, target and mask must share one shape [B, H, W] or [B, D, H, W], got "
            f"{', '.join(map(str, shapes))}"
        )
