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


def normalise_slices(images: np.ndarray, *, in_place: bool = False) -> np.ndarray:
    """Per slice and modality, over all H * W pixels, background included (the paper's form).

        y = min(x, percentile(x, 99.5));  z = (y - mean(y)) / std(y), std with ddof 0

    A slice that is constant after clipping becomes zeros. |z| cannot pass sqrt(H * W), so
    float16 (65,504 at most) cannot overflow for any slice that fits in memory.

    Args:
      images: real[slices, H, W, C], finite.
      in_place: overwrite them if they have 16 bits too: there is no need of them any more.

    Returns:
      float16[slices, H, W, C].
    """
    result = _result(images, in_place)

    def fill(block: slice) -> None:
        room = _Room(images.shape[1:-1], images.dtype)
        for index in range(block.start, block.stop):
            for channel in range(images.shape[-1]):
                result[index, ..., channel] = room.half_scores(images[index, ..., channel])

    threads.each(fill, threads.blocks(len(images)))
    return result


def normalise_volume(images: np.ndarray, *, in_place: bool = False) -> np.ndarray:
    """Per modality over the brain of the whole volume; the background becomes 0.

        y = min(x, percentile(x in brain, 99.5));  z = (y - mean(y in brain)) / std(y in brain)

    The brain is `brain_mask`: needs images whose background is exactly 0. A modality that is
    constant in the brain becomes zeros. |z| cannot pass sqrt(brain voxels): no float16 overflow.

    Args:
      images: real[slices, H, W, C], finite.
      in_place: overwrite them if they have 16 bits too: there is no need of them any more.

    Returns:
      float16[slices, H, W, C].
    """
    brain = brain_mask(images)
    result = _result(images, in_place)  # beside the brain both are 0, which has the same bits
    if not brain.any():
        return result

    def fill(channel: int) -> None:
        values = images[brain, channel]
        result[brain, channel] = _Room(values.shape, values.dtype).half_scores(values)

    threads.each(fill, range(images.shape[-1]))
    return result


def normalise(images: np.ndarray, how: str, *, in_place: bool = False) -> np.ndarray:
    """Normalises real[slices, H, W, C] to float16 by 'slice' or by 'volume'."""
    function = {"slice": normalise_slices, "volume": normalise_volume}[how]
    return function(images, in_place=in_place)


def _result(images: np.ndarray, in_place: bool) -> np.ndarray:
    """Where the scores go: new memory, whose pages cost time, is not always needed."""
    if in_place and images.dtype.kind in "iu" and images.dtype.itemsize == 2:
        return images.view(np.float16)
    return np.zeros(images.shape, dtype=np.float16)


class _Room:
    """Memory in which one thread scores image after image: new memory costs as much again.

    Args:
      shape: of the images.
      dtype: of the images.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.small = dtype.kind in "iu" and dtype.itemsize <= 2
        self._values = np.empty(shape, dtype if self.small else np.float64)
        self._scores = np.empty(shape) if self.small else self._values
        self._other = np.empty(shape)
        self._halves = np.empty(shape, np.float16)

    def half_scores(self, values: np.ndarray) -> np.ndarray:
        """Clips from above and z-scores all of `values` together; zeros if that leaves one value.

        Of small integers every value is scored once and looked up: rounding to float16 is the
        slowest part, and a slice holds far fewer values than pixels. The bits are the same.

        Args:
          values: real[...], finite.

        Returns:
          float16 of that shape, which the next call overwrites.
        """
        np.copyto(self._values, values)
        values, scores, other, halves = self._values, self._scores, self._other, self._halves
        halves.fill(0)
        lowest, highest = values.min(), values.max()
        if lowest == highest:  # air, often
            return halves
        top = top_percentile(values.ravel())
        # Exact, not by tolerance: an image of two values is an image, however faint.
        if top == lowest:
            return halves
        np.minimum(values, top, out=scores)
        mean = scores.mean()
        scores -= mean
        deviation = math.sqrt(np.square(scores, out=other).mean())
        # Differences too small for their squares to be float64 count as none.
        if not deviation > 0:
            return halves
        if not self.small or int(highest) - int(lowest) > values.size:
            scores /= deviation
            np.copyto(halves, scores, casting="same_kind")
            return halves
        every = np.arange(int(lowest), int(highest) + 1, dtype=np.float64)
        table = ((np.minimum(every, top) - mean) / deviation).astype(np.float16)
        index = other.view(np.int64)
        np.subtract(values, np.int64(lowest), out=index)
        return table.take(index, out=halves, mode="clip")  # none is outside: saves a copy
