"""SSIM with uniform windows on the host: sums of contiguous runs, image by image, on threads.

An image lies in memory as one run of numbers, and so do the sums of all its windows along one
axis: of numbers k steps apart, in four additions for seven. Where a run passes from one row into
the next it holds nonsense, which is left out in the end. With

    n = pixels of a window, m_x, m_y = its sums, d = m_x - m_y, s = m_x^2 + m_y^2,
    v = n sum(x^2 + y^2) - s, w = n sum((x - y)^2) - d^2

SSIM of a window is (1 - d^2 / (s + C1 n^2)) (1 - w / (v + C2 n (n - 1))), the same fraction as in
`image.ssim`; both are 1 to the bit where the images are equal.
"""

import concurrent.futures
import os
from collections.abc import Sequence

import numpy as np

_TAPS = 7
# In float32 v loses its digits where a window is flat and far from 0. Where s is as large as this
# beside C2, and v this small beside s, the image is done again in float64.
_FLAT, _FAR = 1e-4, 300.0


def ssim_uniform(
    prediction: np.ndarray,
    target: np.ndarray,
    ranges: np.ndarray,
    mask: np.ndarray | None,
    k1: float,
    k2: float,
) -> np.ndarray:
    """What `image.ssim` gives under "uniform7"; takes what it takes, checked.

    Args:
      prediction, target: float32[B, H, W] or [B, D, H, W].
      ranges: float32[B].
      mask: bool of their shape, or None.
      k1, k2: the constants of C1 and C2.

    Returns:
      float32[B].
    """

    def one(index: int) -> float:
        data_range = float(ranges[index])
        inner = None
        if mask is not None:
            inner = mask[index][(slice(_TAPS // 2, -(_TAPS // 2)),) * (mask.ndim - 1)]
        if not data_range > 0 or (inner is not None and not inner.any()):
            return np.nan
        constants = ((k1 * data_range) ** 2, (k2 * data_range) ** 2)
        pair = (prediction[index], target[index])
        with np.errstate(all="ignore"):  # of images that are not finite, and so is their SSIM
            windows = _windows(*pair, *constants, np.float32)
            if windows is None:
                windows = _windows(*pair, *constants, np.float64)
            assert windows is not None
            if inner is not None:
                return float(windows[inner].mean(dtype=np.float64))
            return float(windows.mean(axis=-1).mean(dtype=np.float64))

    threads = min(len(target), os.cpu_count() or 1)
    if threads < 2:
        return np.array([one(index) for index in range(len(target))], np.float32)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return np.array(list(pool.map(one, range(len(target)))), np.float32)


def _windows(
    prediction: np.ndarray, target: np.ndarray, c1: float, c2: float, dtype: type
) -> np.ndarray | None:
    """SSIM of every window that lies in the image; None where the type has too few digits."""
    shape, size = target.shape, target.size
    steps = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    scratch: list[np.ndarray] = [np.empty(size, dtype) for _ in range(3)]
    x: np.ndarray = np.empty(size, dtype)
    y, xy = np.empty_like(x), np.empty_like(x)
    # The most common value, if there is one: the background, whose windows are then exact.
    offset = dtype(np.median(target.ravel()[::61]))
    np.subtract(prediction.ravel(), offset, out=x)
    np.subtract(target.ravel(), offset, out=y)
    m_x, m_y = _sums(x, steps, scratch), _sums(y, steps, scratch)
    np.subtract(x, y, out=xy)
    xy *= xy
    x *= x
    y *= y
    x += y
    v, w = _sums(x, steps, scratch), _sums(xy, steps, scratch)
    n = float(_TAPS ** len(shape))
    d, s, spare = x[: len(v)], y[: len(v)], xy[: len(v)]
    np.subtract(m_x, m_y, out=d)
    d *= d
    np.multiply(m_x, m_x, out=s)
    s += np.multiply(m_y, m_y, out=spare)
    v *= dtype(n)
    v -= s
    least = c2 * n * (n - 1)
    if dtype is np.float32:
        np.multiply(s, dtype(_FLAT), out=spare)
        spare -= dtype(_FLAT * _FAR * least)
        if (v < spare).any():
            return None
    v += dtype(least)
    w *= dtype(n)
    w -= d
    w /= v
    np.subtract(dtype(1), w, out=w)
    m_x += dtype(n) * offset
    m_y += dtype(n) * offset
    m_x *= m_x
    m_y *= m_y
    m_x += m_y
    m_x += dtype(c1 * n * n)
    d /= m_x
    np.subtract(dtype(1), d, out=d)
    w *= d
    whole = scratch[0]
    whole[: len(w)] = w
    return whole.reshape(shape)[tuple(slice(length - _TAPS + 1) for length in shape)]


def _sums(values: np.ndarray, steps: Sequence[int], scratch: list[np.ndarray]) -> np.ndarray:
    """Sums over the window that begins at each number, along every axis in turn."""
    pairs, fours, between = scratch
    last = len(steps) - 1
    for axis, step in enumerate(reversed(steps)):
        count = len(values)
        two = np.add(values[:-step], values[step:], out=pairs[: count - step])
        length = count - 3 * step
        four = np.add(two[:length], two[2 * step :], out=fours[:length])
        length = count - 6 * step
        out = np.empty(length, values.dtype) if axis == last else between[:length]
        # In this order, because `out` may lie where `values` are.
        four = np.add(four[:length], values[6 * step :], out=four[:length])
        values = np.add(four, two[4 * step : 4 * step + length], out=out)
    return values
