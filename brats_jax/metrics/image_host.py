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

_MOST_THREADS = 8


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

    whole = np.empty(len(target), np.float32)
    threads = max(1, min(len(target), os.cpu_count() or 1, _MOST_THREADS))

    def every(first: int) -> None:
        rooms: dict[type, _Room] = {}
        for index in range(first, len(target), threads):
            data_range = float(ranges[index])
            inner = None
            if mask is not None:
                inner = mask[index][(slice(_TAPS // 2, -(_TAPS // 2)),) * (mask.ndim - 1)]
            whole[index] = np.nan
            if not data_range > 0 or (inner is not None and not inner.any()):
                continue
            constants = ((k1 * data_range) ** 2, (k2 * data_range) ** 2)
            for dtype in (np.float32, np.float64):
                if dtype not in rooms:
                    rooms[dtype] = _Room(target.shape[1:], dtype)
                # Images that are not finite have no SSIM that is, and need no warning.
                with np.errstate(all="ignore"):
                    windows = rooms[dtype].windows(prediction[index], target[index], *constants)
                if windows is not None:
                    break
            assert windows is not None
            if inner is not None:
                whole[index] = windows[inner].mean(dtype=np.float64)
            else:
                whole[index] = windows.mean(axis=-1).mean(dtype=np.float64)

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(every, range(threads)))
    return whole


class _Room:
    """Memory in which one thread compares image after image: new memory costs as much again.

    Args:
      shape: of the images.
      dtype: that is computed in.
    """

    def __init__(self, shape: tuple[int, ...], dtype: type) -> None:
        self._shape, self._dtype = shape, dtype
        size = int(np.prod(shape))
        self._images: list[np.ndarray] = [np.empty(size, dtype) for _ in range(3)]
        self._found: list[np.ndarray] = [np.empty(size, dtype) for _ in range(4)]
        self._scratch: list[np.ndarray] = [np.empty(size, dtype) for _ in range(3)]

    def windows(
        self, prediction: np.ndarray, target: np.ndarray, c1: float, c2: float
    ) -> np.ndarray | None:
        """SSIM of every window that lies in the image; None where the type has too few digits.

        The next call overwrites it.
        """
        shape, dtype, scratch = self._shape, self._dtype, self._scratch
        steps = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        x, y, xy = self._images
        # The most common value, if there is one: the background, whose windows are then exact.
        offset = dtype(np.median(target.ravel()[::61]))
        np.subtract(prediction.ravel(), offset, out=x)
        np.subtract(target.ravel(), offset, out=y)
        m_x = _sums(x, steps, scratch, self._found[0])
        m_y = _sums(y, steps, scratch, self._found[1])
        np.subtract(x, y, out=xy)
        xy *= xy
        x *= x
        y *= y
        x += y
        v = _sums(x, steps, scratch, self._found[2])
        w = _sums(xy, steps, scratch, self._found[3])
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
        whole = scratch[0]
        np.multiply(w, d, out=whole[: len(w)])
        return whole.reshape(shape)[tuple(slice(length - _TAPS + 1) for length in shape)]


def _sums(
    values: np.ndarray, steps: Sequence[int], scratch: list[np.ndarray], found: np.ndarray
) -> np.ndarray:
    """Sums over the window that begins at each number, along every axis in turn."""
    pairs, fours, between = scratch
    last = len(steps) - 1
    for axis, step in enumerate(reversed(steps)):
        count = len(values)
        two = np.add(values[:-step], values[step:], out=pairs[: count - step])
        length = count - 3 * step
        four = np.add(two[:length], two[2 * step :], out=fours[:length])
        length = count - 6 * step
        out = (found if axis == last else between)[:length]
        # In this order, because `out` may lie where `values` are.
        four = np.add(four[:length], values[6 * step :], out=four[:length])
        values = np.add(four, two[4 * step : 4 * step + length], out=out)
    return values
