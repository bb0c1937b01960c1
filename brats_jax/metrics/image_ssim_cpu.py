"""SSIM with uniform windows, in a form that XLA:CPU vectorises; `image` has the plain form.

A batch of images is one contiguous array, and the sum of a window along an axis adds seven numbers
that are one stride apart. XLA:CPU makes vector code of that for the whole array, and none for
windows that slide over rows. Sums that pass into the next row or image are meaningless, and are
left out at the end. Images are first shifted by the target's median (of a sample of its pixels;
the background's value if background fills half of the image) and divided by their range R. With

    n = pixels of a window, m_x, m_y = sums of x and y in it, d = m_x - m_y, s = m_x^2 + m_y^2,
    v = n sum(x^2 + y^2) - s, w = n sum((x - y)^2) - d^2

the SSIM of a window is (1 - d^2 / (M + C1 n^2)) (1 - w / (v + C2 n (n - 1))), the fraction of
`image.ssim`, where M is s without the shift. Both factors are 1 where the images are equal.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

TAPS = 7
# v loses its digits in float32 where a window is flat and far from the median: where v is below
# _FLAT times s, and s well above C2 (_FAR). Such a window gets the value _DOUBTFUL, which no SSIM
# has, and the caller measures its image in the plain form.
_FLAT, _FAR, _DOUBTFUL = 1e-4, 300.0, 2.0


def ssim_uniform(
    prediction: np.ndarray,
    target: np.ndarray,
    ranges: np.ndarray,
    mask: np.ndarray | None,
    c1: float,
    c2: float,
) -> tuple[np.ndarray, np.ndarray]:
    """`image.ssim` with the window "uniform7", for a CPU and outside of compiled functions.

    Args:
      prediction, target: float32[B, H, W] or [B, D, H, W].
      ranges: float32[B].
      mask: bool of their shape, the window centres to average over; None for all of them.
      c1, c2: SSIM's constants for a range of 1.

    Returns:
      SSIM float32[B], and bool[B]: images that need more digits than float32 has in this form.
    """
    shape = target.shape
    steps = [int(np.prod(shape[axis + 1 :])) for axis in range(1, target.ndim)]
    flat = target.reshape(len(target), -1)
    # The background's value, where there is a background: its windows become exact.
    shift = np.median(flat[:, ::61], axis=1, keepdims=True).astype(np.float32)
    scale = np.where(ranges > 0, ranges, 1).astype(np.float32)[:, None]
    *images, shifts = _scaled(prediction.reshape(flat.shape), flat, shift, scale)
    # A compiled function for each axis: within one, XLA would compute sums again in every window.
    sums = _first_window_sums(*images)
    for step in steps[-2:0:-1]:
        sums = _window_sums(sums, step)
    windows = _ssim_of_windows(sums, shifts, steps[0], len(steps), c1, c2)
    means, largest = _mean_and_largest(windows, mask, shape)
    return np.where(ranges > 0, means, np.nan), np.asarray(largest) >= _DOUBTFUL


def _sum(values: jax.Array, step: int) -> jax.Array:
    """Sums of TAPS numbers that are `step` apart, from each number on."""
    length = values.shape[0] - (TAPS - 1) * step
    total = values[:length]
    for tap in range(1, TAPS):
        total = total + values[tap * step : tap * step + length]
    return total


@partial(jax.jit, static_argnames="step")
def _window_sums(values: Sequence[jax.Array], step: int) -> list[jax.Array]:
    """Sums over windows along the axis whose neighbours are `step` apart."""
    return [_sum(v, step) for v in values]


@jax.jit
def _first_window_sums(x: jax.Array, y: jax.Array) -> list[jax.Array]:
    """Sums of x, y, x^2 + y^2 and (x - y)^2 over windows along the last axis, flat."""
    x, y = x.ravel(), y.ravel()
    return [_sum(v, 1) for v in (x, y, x * x + y * y, jnp.square(x - y))]


@jax.jit
def _scaled(
    prediction: jax.Array, target: jax.Array, shift: jax.Array, scale: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x and y, shifted and divided by the range, and the shift of every pixel; [B, pixels]."""
    x, y = ((a - shift) / scale for a in (prediction, target))
    return x, y, jnp.broadcast_to(shift / scale, target.shape)


@partial(jax.jit, static_argnames=("step", "axes"))
def _ssim_of_windows(
    values: Sequence[jax.Array],
    shifts: jax.Array,
    step: int,
    axes: int,
    c1: float,
    c2: float,
) -> jax.Array:
    """SSIM of the window that begins at each pixel."""
    m_x, m_y, v, w = (_sum(v, step) for v in values)
    n = float(TAPS**axes)
    d, s = jnp.square(m_x - m_y), jnp.square(m_x) + jnp.square(m_y)
    back = n * shifts.ravel()[: len(m_x)]
    true = jnp.square(m_x + back) + jnp.square(m_y + back)
    v, w, least = n * v - s, n * w - d, c2 * n * (n - 1)
    windows = (1 - d / (true + c1 * n * n)) * (1 - w / (v + least))
    return jnp.where(v < _FLAT * (s - _FAR * least), _DOUBTFUL, windows)


@partial(jax.jit, static_argnames="shape")
def _mean_and_largest(
    windows: jax.Array, mask: jax.Array | None, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Mean and maximum over the windows inside each image and mask, float32[B]."""
    whole = jnp.pad(windows, (0, int(np.prod(shape)) - len(windows))).reshape(shape)
    inside = whole[(slice(None), *(slice(length - TAPS + 1) for length in shape[1:]))]
    axes = tuple(range(1, len(shape)))
    margin = TAPS // 2
    if mask is not None:
        mask = mask[(slice(None), *[slice(margin, -margin)] * len(axes))]
        inside = jnp.where(mask, inside, 0)
    total = inside
    for axis in reversed(axes):  # one by one, which keeps float32's digits
        total = jnp.sum(total, axis=axis)
    count = np.prod(inside.shape[1:]) if mask is None else jnp.sum(mask, axes, jnp.int32)
    return total / count, jnp.max(inside, axis=axes)
