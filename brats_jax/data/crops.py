"""Slices cropped to the box of pixels that differ from the background: a fifth of the bytes.

Outside the box a slice has one value, its background, so that nothing is lost. The box of a slice
without background is the whole slice.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from brats_jax.runtime import threads


@dataclasses.dataclass(frozen=True)
class Crops:
    """The slices of a case, each as a box of pixels on a background.

        slice[r, c] = pixels[start + (r - row) * width + (c - column)]   inside the box
                      background                                         outside

    Attributes:
      shape: (H, W) of the slices.
      boxes: int16[slices, 4], (row, column, height, width); all 0 for an empty box.
      background: real[slices, C], the values outside the box.
      pixels: real[sum of height * width, C], box after box, row by row.
    """

    shape: tuple[int, int]
    boxes: np.ndarray
    background: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def boxed(self) -> list[np.ndarray]:
        """Views [height, width, C] of the pixels of each box."""
        return split(self.pixels, self.boxes)

    def full(self) -> np.ndarray:
        """real[slices, H, W, C]: the whole slices."""
        whole = np.empty((len(self), *self.shape, self.pixels.shape[-1]), self.pixels.dtype)
        parts = self.boxed()

        def fill(block: slice) -> None:
            for k in range(block.start, block.stop):
                window(whole[k], 0, 0, self.boxes[k].tolist(), parts[k], self.background[k])

        threads.parallel_map(fill, threads.split_range(len(self)))
        return whole

    def widened(self, boxes: np.ndarray) -> "Crops":
        """The same slices in boxes that contain the boxes int[slices, 4] too."""
        wider = union(self.boxes, boxes)
        if np.array_equal(wider, self.boxes):
            return self
        pixels = np.empty((starts(wider)[-1], self.pixels.shape[-1]), self.pixels.dtype)
        before, after = self.boxed(), split(pixels, wider)
        for k, (row, column, *_) in enumerate(wider.tolist()):
            window(after[k], row, column, self.boxes[k].tolist(), before[k], self.background[k])
        return dataclasses.replace(self, boxes=wider, pixels=pixels)


def window(
    out: np.ndarray,
    row: int,
    column: int,
    box: Sequence[int],
    pixels: np.ndarray,
    background: object,
) -> None:
    """Copies a window of a slice into `out`.

    Args:
      out: [h, w, ...], overwritten.
      row, column: first row and column of the window in the slice.
      box: (row, column, height, width) of the pixels in the slice.
      pixels: [height, width, ...].
      background: value outside the box; broadcast against a pixel.
    """
    first, left, height, width = box
    top, bottom = max(row, first), min(row + out.shape[0], first + height)
    start, stop = max(column, left), min(column + out.shape[1], left + width)
    if bottom - top < out.shape[0] or stop - start < out.shape[1]:
        out[...] = background
    if top < bottom and start < stop:
        out[top - row : bottom - row, start - column : stop - column] = pixels[
            top - first : bottom - first, start - left : stop - left
        ]


def starts(boxes: np.ndarray) -> np.ndarray:
    """int64[slices + 1]: the first pixel of each box, and the total number of pixels."""
    areas = boxes[:, 2].astype(np.int64) * boxes[:, 3]
    return np.concatenate([[0], np.cumsum(areas)])


def split(pixels: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """Views [height, width, ...] of each box in pixels[n, ...], which are ordered by box."""
    begins = starts(boxes).tolist()
    return [
        pixels[begin:end].reshape(height, width, *pixels.shape[1:])
        for begin, end, (_, _, height, width) in zip(
            begins[:-1], begins[1:], boxes.tolist(), strict=True
        )
    ]


def cut(slices: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The pixels [n, ...] in the boxes of slices[slices, H, W, ...], ordered by box."""
    pixels = np.empty((starts(boxes)[-1], *slices.shape[3:]), slices.dtype)
    parts = split(pixels, boxes)

    def fill(block: slice) -> None:
        for k in range(block.start, block.stop):
            row, column, height, width = boxes[k].tolist()
            parts[k][...] = slices[k, row : row + height, column : column + width]

    threads.parallel_map(fill, threads.split_range(len(boxes)))
    return pixels


def corners(slices: np.ndarray) -> np.ndarray:
    """[slices, ...]: the first pixel of each slice, which is background if the slice has one."""
    return slices[:, 0, 0].copy()


def boxes_around(slices: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The smallest box around the pixels of each slice that differ from the background.

    Args:
      slices: real[slices, H, W, C].
      background: [slices, C].

    Returns:
      int16[slices, 4].
    """
    count, height, width = slices.shape[:3]
    rows, columns = np.empty((count, height), bool), np.empty((count, width), bool)
    background = background.astype(slices.dtype)
    whole = _whole_pixels(slices), _whole_pixels(background)

    def compare(block: slice) -> None:
        if whole[0] is not None and whole[1] is not None:
            differs = whole[0][block] != whole[1][block, None, None]
        else:
            differs = (slices[block] != background[block, None, None]).any(axis=-1)
        differs.any(axis=2, out=rows[block])
        differs.any(axis=1, out=columns[block])

    threads.parallel_map(compare, threads.split_range(count))
    return _boxes(rows, columns)


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """int16[slices, 4]: the smallest boxes around the True pixels of bool[slices, H, W]."""
    return _boxes(np.any(masks, axis=2), np.any(masks, axis=1))


def union(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The smallest boxes that contain both; empty boxes are ignored."""
    first = np.minimum(one[:, :2], other[:, :2])
    last = np.maximum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    both = np.concatenate([first, last - first], axis=1)
    return np.where(_empty(one), other, np.where(_empty(other), one, both)).astype(np.int16)


def _empty(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] == 0).any(axis=1, keepdims=True)


def _whole_pixels(values: np.ndarray) -> np.ndarray | None:
    """Integers[..., C] as one integer per pixel, which are faster to compare, or None."""
    size = values.dtype.itemsize * values.shape[-1]
    if values.dtype.kind not in "iu" or size not in (1, 2, 4, 8) or not values.flags.c_contiguous:
        return None
    return values.view(f"u{size}")[..., 0]


def _boxes(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The boxes of the True rows, bool[slices, H], and columns, bool[slices, W]."""
    boxes = np.zeros((len(rows), 4), np.int16)
    there = rows.any(axis=1)
    for axis, marks in enumerate((rows, columns)):
        first = marks.argmax(axis=1)
        length = marks.shape[1] - marks[:, ::-1].argmax(axis=1) - first
        boxes[:, axis] = np.where(there, first, 0)
        boxes[:, 2 + axis] = np.where(there, length, 0)
    return boxes
