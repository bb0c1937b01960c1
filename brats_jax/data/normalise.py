"""Intensities to z-scores: clip at the 99.5th percentile, subtract the mean, divide by the std.

MRI intensities have no unit; only their order and spread within one image mean anything. Both
forms are unchanged by any a * x + b with a > 0 on their domain, which is why slices that were
already z-scored (the Kaggle files) give the same result as the volumes they were cut from.
"""

import math

import numpy as np

from brats_jax.data import crops
from brats_jax.data.crops import Crops
from brats_jax.runtime import threads

PERCENTILE = 99.5
NORMALISATIONS = ("slice", "volume")

# One value in this many is looked at to guess where the top of the values begins.
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

    Only the largest values matter, so those above a threshold guessed from a sample are kept
    and sorted; if the guess kept too few, all of them are.

    Args:
      values: real[n], finite, n >= 1.
      percent: 0..100.
      beside: how many more values there are, all of them `background`.

    Returns:
      np.percentile(values, percent).

    Reference: https://numpy.org/doc/stable/reference/generated/numpy.percentile.html
    """
    count = len(values) + beside
    rank = (count - 1) * (percent / 100.0)
    below = int(rank)
    sample = np.sort(values[::_SAMPLE_STEP])
    # Twice as many as are needed and some more, as a share of the values that are here.
    share = (2.02 - 2 * percent / 100.0) * count / len(values)
    guess = sample[int(len(sample) * max(0.0, 1 - share))]
    top = values[values > guess]
    if len(top) < count - below or (beside and background > guess):
        top = np.concatenate([values, np.full(beside, background, values.dtype)])
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


def normalise_slices(images: np.ndarray) -> Crops:
    """Per slice and modality, over all H * W pixels, background included (the paper's form).

        y = min(x, percentile(x, 99.5));  z = (y - mean(y)) / std(y), std with ddof 0

    A slice that is constant after clipping becomes zeros. |z| cannot pass sqrt(H * W), so
    float16 (65,504 at most) cannot overflow for any slice that fits in memory.

    Args:
      images: real[slices, H, W, C], finite.

    Returns:
      float16, cut to what differs from the background, which counts as often as it occurs.
    """
    raw = crops.corners(images)
    boxes = crops.boxes_around(images, raw)
    result = _result(images, boxes)
    parts = result.boxed()
    height, width, channels = images.shape[1:]

    def fill(block: slice) -> None:
        room = _Room(height * width, images.dtype)
        for k in range(block.start, block.stop):
            row, column, *size = boxes[k].tolist()
            part = images[k, row : row + size[0], column : column + size[1]]
            beside = height * width - size[0] * size[1]
            for channel in range(channels if part.size else 0):
                scores, rest = room.half_scores(part[..., channel], beside, raw[k, channel])
                parts[k][..., channel] = scores
                result.background[k, channel] = rest

    threads.parallel_map(fill, threads.split_range(len(images)))
    return result


def normalise_volume(images: np.ndarray) -> Crops:
    """Per modality over the brain of the whole volume; the background becomes 0.

        y = min(x, percentile(x in brain, 99.5));  z = (y - mean(y in brain)) / std(y in brain)

    The brain is `brain_mask`: needs images whose background is exactly 0. A modality that is
    constant in the brain becomes zeros. |z| cannot pass sqrt(brain voxels): no float16 overflow.

    Args:
      images: real[slices, H, W, C], finite.

    Returns:
      float16, cut to the brain.
    """
    boxes = crops.boxes_around(images, np.zeros((len(images), images.shape[-1])))
    result = _result(images, boxes)
    raw = crops.cut(images, boxes)
    brain = brain_mask(raw)
    if not brain.any():
        return result

    def fill(channel: int) -> None:
        values = raw[brain, channel]
        scores, _ = _Room(values.size, values.dtype).half_scores(values)
        result.pixels[brain, channel] = scores

    threads.parallel_map(fill, range(images.shape[-1]))
    return result


def normalise_crops(images: np.ndarray, how: str) -> Crops:
    """Normalises real[slices, H, W, C] to float16 by 'slice' or by 'volume', cut to the head."""
    return {"slice": normalise_slices, "volume": normalise_volume}[how](images)


def normalise(images: np.ndarray, how: str) -> np.ndarray:
    """The same as whole slices, float16[slices, H, W, C]."""
    return normalise_crops(images, how).full()


def _result(images: np.ndarray, boxes: np.ndarray) -> Crops:
    """Room for the scores, all 0."""
    count, height, width, channels = images.shape
    return Crops(
        shape=(height, width),
        boxes=boxes,
        background=np.zeros((count, channels), np.float16),
        pixels=np.zeros((crops.starts(boxes)[-1], channels), np.float16),
    )


class _Room:
    """Memory in which one thread scores image after image: new memory costs as much again.

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
        self, image: np.ndarray, beside: int = 0, background: float = 0.0
    ) -> tuple[np.ndarray, np.floating]:
        """Clips from above and z-scores all values together; zeros if that leaves one value.

        Of small integers every value is scored once and looked up: rounding to float16 is the
        slowest part, and a slice holds far fewer values than pixels. The bits are the same.

        Args:
          image: real[...], finite, at least one value.
          beside: how many more pixels there are, all of them `background`.

        Returns:
          float16 of the image's shape, which the next call overwrites, and that of the background.
        """
        size, total = image.size, image.size + beside
        values, scores, other, halves = (
            room[:size] for room in (self._values, self._scores, self._other, self._halves)
        )
        shaped = halves.reshape(image.shape)
        np.copyto(values.reshape(image.shape), image)
        lowest, highest = values.min(), values.max()
        if beside:
            lowest, highest = min(lowest, background), max(highest, background)
        halves.fill(0)
        if lowest == highest:  # air, often
            return shaped, np.float16(0)
        top = top_percentile(values, beside=beside, background=background)
        # Exact, not by tolerance: an image of two values is an image, however faint.
        if top == lowest:
            return shaped, np.float16(0)
        rest = min(float(background), top)
        np.minimum(values, top, out=scores)
        mean = (scores.sum() + beside * rest) / total
        scores -= mean
        squares = np.square(scores, out=other).sum() + beside * (rest - mean) ** 2
        deviation = math.sqrt(squares / total)
        # Differences too small for their squares to be float64 count as none.
        if not deviation > 0:
            return shaped, np.float16(0)
        score = np.float16((rest - mean) / deviation)
        if not self.small or int(highest) - int(lowest) > size:
            scores /= deviation
            np.copyto(halves, scores, casting="same_kind")
            return shaped, score
        every = np.arange(int(lowest), int(highest) + 1, dtype=np.float64)
        table = ((np.minimum(every, top) - mean) / deviation).astype(np.float16)
        index = other.view(np.int64)
        np.subtract(values, np.int64(lowest), out=index)
        table.take(index, out=halves, mode="clip")  # none is outside: saves a copy
        return shaped, score
