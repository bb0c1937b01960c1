"""Intensities to z-scores: clip at the 99.5th percentile, subtract the mean, divide by the std.

MRI intensities have no unit; only their order and spread within one image mean anything. Both
forms are unchanged by any a * x + b with a > 0 on their domain, which is why slices that were
already z-scored (the Kaggle files) give the same result as the volumes they were cut from.
"""

import math

import numpy as np

from brats_jax.data import threads

PERCENTILE = 99.5
NORMALISATIONS = ("slice", "volume")

# One value in this many is looked at to guess where the top of the values begins.
_SAMPLE_STEP = 61


def top_percentile(values: np.ndarray, percent: float = PERCENTILE) -> float:
    """A high percentile, equal to np.percentile's default (linear) to the bit, and faster.

        rank = (n - 1) percent / 100;  p = v[floor] + (v[floor + 1] - v[floor]) frac(rank)

    Only the largest values matter, so those above a threshold guessed from a sample are kept
    and sorted; if the guess kept too few, all of them are.

    Args:
      values: real[n], finite, n >= 1.
      percent: 0..100.

    Returns:
      np.percentile(values, percent).

    Reference: https://numpy.org/doc/stable/reference/generated/numpy.percentile.html
    """
    count = len(values)
    rank = (count - 1) * (percent / 100.0)
    below = int(rank)
    sample = np.sort(values[::_SAMPLE_STEP])
    guess = sample[int(len(sample) * max(0.0, 2 * percent / 100.0 - 1.02))]
    top = values[values > guess]
    if len(top) < count - below:
        top = values
    top = np.sort(top)
    # Ranks counted from the end: the values left out are the smallest.
    low = float(top[below - count])
    high = float(top[min(below + 1, count - 1) - count])
    fraction = rank - below
    # From the nearer end, as NumPy does.
    if fraction < 0.5:
        return low + (high - low) * fraction
    return high - (high - low) * (1.0 - fraction)


def brain_mask(images: np.ndarray) -> np.ndarray:
    """bool[..., H, W]: where any modality of images[..., H, W, C] is not zero.

    The union, because the zero masks of a case's modalities differ by a few voxels.
    """
    return (images != 0).any(axis=-1)


def normalise_slices(images: np.ndarray) -> np.ndarray:
    """Per slice and modality, over all H * W pixels, background included (the paper's form).

        y = min(x, percentile(x, 99.5));  z = (y - mean(y)) / std(y), std with ddof 0

    A slice that is constant after clipping becomes zeros. |z| cannot pass sqrt(H * W), so
    float16 (65,504 at most) cannot overflow for any slice that fits in memory.

    Args:
      images: real[slices, H, W, C], finite.

    Returns:
      float16[slices, H, W, C].
    """
    result = np.empty(images.shape, dtype=np.float16)

    def fill(block: slice) -> None:
        for index in range(block.start, block.stop):
            for channel in range(images.shape[-1]):
                result[index, ..., channel] = _half_scores(images[index, ..., channel])

    threads.each(fill, threads.blocks(len(images)))
    return result


def normalise_volume(images: np.ndarray) -> np.ndarray:
    """Per modality over the brain of the whole volume; the background becomes 0.

        y = min(x, percentile(x in brain, 99.5));  z = (y - mean(y in brain)) / std(y in brain)

    The brain is `brain_mask`: needs images whose background is exactly 0. A modality that is
    constant in the brain becomes zeros. |z| cannot pass sqrt(brain voxels): no float16 overflow.

    Args:
      images: real[slices, H, W, C], finite.

    Returns:
      float16[slices, H, W, C].
    """
    brain = brain_mask(images)
    result = np.zeros(images.shape, dtype=np.float16)
    if not brain.any():
        return result

    def fill(channel: int) -> None:
        result[brain, channel] = _half_scores(images[brain, channel])

    threads.each(fill, range(images.shape[-1]))
    return result


def normalise(images: np.ndarray, how: str) -> np.ndarray:
    """Normalises real[slices, H, W, C] to float16 by 'slice' or by 'volume'."""
    return {"slice": normalise_slices, "volume": normalise_volume}[how](images)


def _half_scores(values: np.ndarray) -> np.ndarray:
    """Clips from above and z-scores all of `values` together; zeros if that leaves one value.

    Of small integers every value is scored once and looked up: rounding to float16 is the
    slowest part, and a slice holds far fewer values than pixels. The bits are the same.

    Args:
      values: real[...], finite.

    Returns:
      float16 of that shape.
    """
    small = values.dtype.kind in "iu" and values.dtype.itemsize <= 2
    values = np.ascontiguousarray(values) if small else values.astype(np.float64)
    top = top_percentile(values.ravel())
    lowest, highest = values.min(), values.max()
    # Exact, not by tolerance: an image of two values is an image, however faint.
    if min(highest, top) == lowest:
        return np.zeros(values.shape, np.float16)
    scores = values.astype(np.float64, copy=False)
    np.minimum(scores, top, out=scores)
    mean = scores.mean()
    scores -= mean
    deviation = math.sqrt(np.square(scores).mean())
    # Differences too small for their squares to be float64 count as none.
    if not deviation > 0:
        return np.zeros(values.shape, np.float16)
    if not small or int(highest) - int(lowest) > values.size:
        return (scores / deviation).astype(np.float16)
    every = np.arange(int(lowest), int(highest) + 1, dtype=np.float64)
    table = ((np.minimum(every, top) - mean) / deviation).astype(np.float16)
    return table.take(np.subtract(values, lowest, dtype=np.intp))
