"""Intensities to z-scores: clip at the 99.5th percentile, subtract the mean, divide by the std.

MRI intensities have no unit. All normalisations are invariant to a * x + b with a > 0, so that
slices that were z-scored before (the Kaggle files) give the same result as the original volumes.
`robust` takes the median and the interquartile range instead, which a tumour moves less.
"""

import math

import numpy as np

from brats_jax.data import crops
from brats_jax.data.crops import Crops
from brats_jax.runtime import threads

PERCENTILE = 99.5
BY_VOLUME = ("volume", "robust")
NORMALISATIONS = ("slice", *BY_VOLUME)
# Interquartile range of a normal distribution of standard deviation 1.
IQR_OF_NORMAL = 1.3489795003921634
HALF_MAX = 65504.0

# One value in this many is sampled to guess a threshold below the percentile.
_SAMPLE_STEP = 61


def top_percentile(
    values: np.ndarray,
    percent: float = PERCENTILE,
    *,
    beside: int = 0,
    background: float = 0.0,
) -> float:
    """A high percentile, equal to np.percentile's default (linear) to the bit, and faster.

        rank = (n - 1) percent / 100;  p = v[floor] + (v[floor + 1] - v[floor]) frac(rank)

    Sorts only the values above a threshold that is guessed from a sample; all values if too few
    are above it.

    Args:
      values: real[n], finite, n >= 1.
      percent: 0..100.
      beside: number of further values, all equal to `background`.
      background: their value.

    Returns:
      np.percentile of all values.

    Reference: https://numpy.org/doc/stable/reference/generated/numpy.percentile.html
    """
    count = len(values) + beside
    rank = (count - 1) * (percent / 100.0)
    below = int(rank)
    sample = np.sort(values[::_SAMPLE_STEP])
    # A little more than twice the values needed, as a share of `values`.
    share = (2.02 - 2 * percent / 100.0) * count / len(values)
    guess = sample[int(len(sample) * max(0.0, 1 - share))]
    top = values[values > guess]
    if len(top) < count - below or (beside and background > guess):
        top = np.concatenate([values, np.full(beside, background, values.dtype)])
    top = np.sort(top)
    # Ranks from the end: the values that are not in `top` are the smallest.
    low = float(top[below - count])
    high = float(top[min(below + 1, count - 1) - count])
    fraction = rank - below
    # Interpolates from the nearer end, as NumPy does.
    if fraction < 0.5:
        return low + (high - low) * fraction
    return high - (high - low) * (1.0 - fraction)


def brain_mask(images: np.ndarray) -> np.ndarray:
    """bool[..., H, W]: pixels of images[..., H, W, C] where any modality is not zero.

    The union, because the zero masks of the modalities differ by a few voxels.
    """
    return (images != 0).any(axis=-1)


def normalise_slices(images: np.ndarray) -> Crops:
    """Per slice and modality, over all H * W pixels, background included (the paper's form).

        y = min(x, percentile(x, 99.5));  z = (y - mean(y)) / std(y), std with ddof 0

    A slice that is constant after clipping becomes zeros. |z| is at most sqrt(H * W), so that
    float16 (65,504 at most) does not overflow.

    Args:
      images: real[slices, H, W, C], finite.

    Returns:
      float16, cropped to the pixels that differ from the background.
    """
    raw = crops.corners(images)
    boxes = crops.boxes_around(images, raw)
    result = _zero_scores(images, boxes)
    parts = result.boxed()
    height, width, channels = images.shape[1:]

    def fill(block: slice) -> None:
        scratch = _Scratch(height * width, images.dtype)
        for k in range(block.start, block.stop):
            row, column, *size = boxes[k].tolist()
            part = images[k, row : row + size[0], column : column + size[1]]
            beside = height * width - size[0] * size[1]
            for channel in range(channels if part.size else 0):
                scores, rest = scratch.half_scores(part[..., channel], beside, raw[k, channel])
                parts[k][..., channel] = scores
                result.background[k, channel] = rest

    threads.parallel_map(fill, threads.split_range(len(images)))
    return result


def normalise_volume(images: np.ndarray, *, robust: bool = False) -> Crops:
    """Per modality over the brain of the whole volume; the background becomes 0.

        y = min(x, percentile(x in brain, 99.5));  z = (y - mean(y in brain)) / std(y in brain)

    or, `robust`, with quartiles q1, q2, q3 of y in the brain,

        z = (y - q2) / ((q3 - q1) / 1.349), within the range of float16

    The brain is `brain_mask`, so that the background must be exactly 0. A modality that is constant
    in the brain becomes zeros. |z| is at most sqrt(brain voxels) unless `robust`: float16 does not
    overflow. Where q1 equals q3, `robust` divides by the standard deviation.

    Args:
      images: real[slices, H, W, C], finite.
      robust: median and interquartile range instead of mean and standard deviation.

    Returns:
      float16, cropped to the brain.
    """
    boxes = crops.boxes_around(images, np.zeros((len(images), images.shape[-1])))
    result = _zero_scores(images, boxes)
    raw = crops.cut(images, boxes)
    brain = brain_mask(raw)
    if not brain.any():
        return result

    def fill(channel: int) -> None:
        values = raw[brain, channel]
        scores, _ = _Scratch(values.size, values.dtype).half_scores(values, robust=robust)
        result.pixels[brain, channel] = scores

    threads.parallel_map(fill, range(images.shape[-1]))
    return result


def normalise_crops(images: np.ndarray, how: str) -> Crops:
    """Normalises real[slices, H, W, C] by one of `NORMALISATIONS` to float16 crops of the head."""
    if how == "slice":
        return normalise_slices(images)
    return normalise_volume(images, robust=how == "robust")


def normalise(images: np.ndarray, how: str) -> np.ndarray:
    """Normalises real[slices, H, W, C] by one of `NORMALISATIONS` to float16 of the same shape."""
    return normalise_crops(images, how).full()


def _zero_scores(images: np.ndarray, boxes: np.ndarray) -> Crops:
    """Crops for the scores, all 0."""
    count, height, width, channels = images.shape
    return Crops(
        shape=(height, width),
        boxes=boxes,
        background=np.zeros((count, channels), np.float16),
        pixels=np.zeros((crops.starts(boxes)[-1], channels), np.float16),
    )


class _Scratch:
    """Scratch memory of one thread: allocating it for each image would double the time.

    Args:
      most: pixels of the largest image.
      dtype: of the images.
    """

    def __init__(self, most: int, dtype: np.dtype) -> None:
        self.small = dtype.kind in "iu" and dtype.itemsize <= 2
        self._values = np.empty(most, dtype if self.small else np.float64)
        self._scores = np.empty(most) if self.small else self._values
        self._other = np.empty(most)
        self._halves = np.empty(most, np.float16)

    def half_scores(
        self,
        image: np.ndarray,
        beside: int = 0,
        background: float = 0.0,
        *,
        robust: bool = False,
    ) -> tuple[np.ndarray, np.floating]:
        """Clips and z-scores all values together; zeros if they are constant after clipping.

        The scores of small integers are looked up in a table: rounding to float16 is the slowest
        part, and a slice has far fewer distinct values than pixels. The bits are the same.

        Args:
          image: real[...], finite, at least one value.
          beside: number of further pixels, all equal to `background`.
          background: their value.
          robust: see `normalise_volume`; not with further pixels.

        Returns:
          float16 scores of the image, overwritten by the next call, and of the background.
        """
        size, total = image.size, image.size + beside
        values, scores, other, halves = (
            memory[:size] for memory in (self._values, self._scores, self._other, self._halves)
        )
        shaped = halves.reshape(image.shape)
        np.copyto(values.reshape(image.shape), image)
        lowest, highest = values.min(), values.max()
        if beside:
            lowest, highest = min(lowest, background), max(highest, background)
        halves.fill(0)
        if lowest == highest:  # often air
            return shaped, np.float16(0)
        top = top_percentile(values, beside=beside, background=background)
        # Exact, without tolerance: an image of two close values is not constant.
        if top == lowest:
            return shaped, np.float16(0)
        rest = min(float(background), top)
        np.minimum(values, top, out=scores)
        mean = (scores.sum() + beside * rest) / total
        scores -= mean
        squares = np.square(scores, out=other).sum() + beside * (rest - mean) ** 2
        deviation = math.sqrt(squares / total)
        if robust and deviation > 0:
            np.copyto(values.reshape(image.shape), image)  # scores may be the same memory
            np.minimum(values, top, out=scores)
            low, mean, high = np.percentile(scores, (25, 50, 75)).tolist()
            deviation = (high - low) / IQR_OF_NORMAL or deviation
            scores -= mean
        # 0 if the squares of the differences underflow.
        if not deviation > 0:
            return shaped, np.float16(0)
        score = np.float16((rest - mean) / deviation)
        if not self.small or int(highest) - int(lowest) > size:
            scores /= deviation
            np.copyto(halves, np.clip(scores, -HALF_MAX, HALF_MAX, out=scores), casting="same_kind")
            return shaped, score
        every = np.arange(int(lowest), int(highest) + 1, dtype=np.float64)
        table = (np.minimum(every, top) - mean) / deviation
        table = np.clip(table, -HALF_MAX, HALF_MAX).astype(np.float16)
        index = other.view(np.int64)
        np.subtract(values, np.int64(lowest), out=index)
        table.take(index, out=halves, mode="clip")  # no index is outside; "clip" saves a copy
        return shaped, score
