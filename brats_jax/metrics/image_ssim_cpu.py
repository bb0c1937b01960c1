"""SSIM with uniform windows in the form that is fast on a CPU: sums along one run of numbers.

A batch of images lies in memory as one run of numbers, and so do the sums of all its windows along
an axis: of seven numbers a step apart. XLA:CPU makes vector code of that, and none of windows that
slide over rows. Where a run passes into the next row or image it holds nonsense, which is left out
in the end. Images are shifted by the target's median (of a sample of its pixels, which is the
background's value if that fills half of it) and divided by their range R first. With

    n = pixels of a window, m_x, m_y = its sums, d = m_x - m_y, s = m_x^2 + m_y^2,
    v = n sum(x^2 + y^2) - s, w = n sum((x - y)^2) - d^2

SSIM of a window is (1 - d^2 / (M + C1 n^2)) (1 - w / (v + C2 n (n - 1))), the fraction of
`image.ssim`, where M is s with the shift undone. Both factors are 1 where the images are equal.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

TAPS = 7
# float32 takes the digits from v where a window is flat and far from that median: where s is as
# large as this beside C2, and v this small beside s. Such a window is marked by 2, which no
# SSIM is, and its image left to the other form.
_FLAT, _FAR, _DOUBTFUL = 1e-4, 300.0, 2.0


def ssim_uniform(
    prediction: np.ndarray,
    target: np.ndarray,
    ranges: np.ndarray,
    mask: np.ndarray | None,
    c1: float,
    c2: float,
) -> tuple[np.ndarray, np.ndarray]:
    """What `image.ssim` gives under "uniform7"; outside of compiled functions, on a CPU.

    Args:
      prediction, target: float32[B, H, W] or [B, D, H, W].
      ranges: float32[B].
      mask: bool of their shape, the centres that count, or None.
      c1, c2: of a range of 1.

    Returns:
      float32[B]; bool[B], whether an image needs more digits than float32 has here.
    """
    shape = target.shape
    steps = [int(np.prod(shape[axis + 1 :])) for axis in range(1, target.ndim)]
    flat = target.reshape(len(target), -1)
    # The background, if there is one: its windows are exact.
    shift = np.median(flat[:, ::61], axis=1, keepdims=True).astype(np.float32)
    scale = np.where(ranges > 0, ranges, 1).astype(np.float32)[:, None]
    *images, shifts = _scaled(prediction.reshape(flat.shape), flat, shift, scale)
    # A function for each axis: in one, every sum would be computed anew for every window.
    sums = _along_last(*images)
    for step in steps[-2:0:-1]:
        sums = _along(sums, step)
    windows = _end(sums, shifts, steps[0], len(steps), c1, c2)
    means, largest = _means(windows, mask, shape)
    return np.where(ranges > 0, means, np.nan), np.asarray(largest) >= _DOUBTFUL


def _sum(values: jax.Array, step: int) -> jax.Array:
    length = values.shape[0] - (TAPS - 1) * step
    total = values[:length]
    for tap in range(1, TAPS):
        total = total + values[tap * step : tap * step + length]
    return total


@partial(jax.jit, static_argnames="step")
def _along(values: Sequence[jax.Array], step: int) -> list[jax.Array]:
    return [_sum(v, step) for v in values]


@jax.jit
def _along_last(x: jax.Array, y: jax.Array) -> list[jax.Array]:
    """Sums of x, y, x^2 + y^2 and (x - y)^2 along the last axis, each in one run."""
    x, y = x.ravel(), y.ravel()
    return [_sum(v, 1) for v in (x, y, x * x + y * y, jnp.square(x - y))]


@jax.jit
def _scaled(
    prediction: jax.Array, target: jax.Array, shift: jax.Array, scale: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x and y, and the shift of every number; [B, numbers]."""
    x, y = ((a - shift) / scale for a in (prediction, target))
    return x, y, jnp.broadcast_to(shift / scale, target.shape)


@partial(jax.jit, static_argnames=("step", "axes"))
def _end(
    values: Sequence[jax.Array],
    shifts: jax.Array,
    step: int,
    axes: int,
    c1: float,
    c2: float,
) -> jax.Array:
    """SSIM of the window that begins at each number."""
    m_x, m_y, v, w = (_sum(values_, step) for values_ in values)
    n = float(TAPS**axes)
    d, s = jnp.square(m_x - m_y), jnp.square(m_x) + jnp.square(m_y)
    back = n * shifts.ravel()[: len(m_x)]
    true = jnp.square(m_x + back) + jnp.square(m_y + back)
    v, w, least = n * v - s, n * w - d, c2 * n * (n - 1)
    windows = (1 - d / (true + c1 * n * n)) * (1 - w / (v + least))
    return jnp.where(v < _FLAT * (s - _FAR * least), _DOUBTFUL, windows)


@partial(jax.jit, static_argnames="shape")
def _means(
    windows: jax.Array, mask: jax.Array | None, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Mean over the windows that lie in their image and count, and their largest, float32[B]."""
    whole = jnp.pad(windows, (0, int(np.prod(shape)) - len(windows))).reshape(shape)
    inside = whole[(slice(None), *(slice(length - TAPS + 1) for length in shape[1:]))]
    axes = tuple(range(1, len(shape)))
    margin = TAPS // 2
    if mask is not None:
        mask = mask[(slice(None), *[slice(margin, -margin)] * len(axes))]
        inside = jnp.where(mask, inside, 0)
    total = inside
    for axis in reversed(axes):  # one by one, so that float32 keeps its digits
        total = jnp.sum(total, axis=axis)
    count = np.prod(inside.shape[1:]) if mask is None else jnp.sum(mask, axes, jnp.int32)
    return total / count, jnp.max(inside, axis=axes)
