import numpy as np
import pytest

from brats_jax.data import crops
from brats_jax.data.crops import Crops


def frame(dtype) -> np.ndarray:
    """Three slices on backgrounds of their own: a head, nothing, a pixel in the last corner."""
    slices = np.zeros((3, 6, 7, 4), dtype)
    slices[:] = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 9]])[:, None, None]
    slices[0, 2:5, 1:4] = np.arange(36).reshape(3, 3, 4)
    slices[2, 5, 6, 1] = 1
    return slices


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float16])
def test_slices_come_back_from_their_boxes(dtype):
    slices = frame(dtype)
    background = crops.corners(slices)
    boxes = crops.boxes_around(slices, background)
    assert boxes.tolist() == [[2, 1, 3, 3], [0, 0, 0, 0], [5, 6, 1, 1]]
    assert crops.starts(boxes).tolist() == [0, 9, 9, 10]
    made = Crops((6, 7), boxes, background, crops.cut(slices, boxes))
    assert made.pixels.shape == (10, 4)
    assert [part.shape for part in made.boxed()] == [(3, 3, 4), (0, 0, 4), (1, 1, 4)]
    np.testing.assert_array_equal(made.full(), slices)
    # Wider boxes hold the same slices; those that lie within change nothing.
    wider = made.widened(np.array([[0, 3, 3, 4], [2, 2, 1, 1], [0, 0, 0, 0]], np.int16))
    assert wider.boxes.tolist() == [[0, 1, 5, 6], [2, 2, 1, 1], [5, 6, 1, 1]]
    np.testing.assert_array_equal(wider.full(), slices)
    assert made.widened(made.boxes) is made


def test_a_pixel_that_differs_in_one_bit_is_in_the_box():
    slices = np.zeros((1, 5, 5, 4), np.int16)
    slices[0, 4, 0, 3], slices[0, 1, 3, 0] = 1, -32768
    boxes = crops.boxes_around(slices, crops.corners(slices))
    assert boxes.tolist() == [[1, 0, 4, 4]]


@pytest.mark.parametrize("place", [(0, 0), (2, 3), (-3, -2), (4, 4), (9, 0), (-9, -9)])
def test_windows_equal_those_of_a_padded_slice(place):
    """Any window, also one that the box does not meet."""
    rng = np.random.default_rng(0)
    whole = np.full((30, 30), 7.0)
    box = [12, 11, 4, 6]
    pixels = rng.random((4, 6))
    whole[12:16, 11:17] = pixels
    row, column = 10 + place[0], 10 + place[1]
    out = np.empty((5, 4))
    crops.window(out, row, column, box, pixels, 7.0)
    np.testing.assert_array_equal(out, whole[row : row + 5, column : column + 4])


def test_boxes_surround_their_masks():
    masks = np.zeros((2, 4, 5), bool)
    masks[0, 1, 4] = masks[0, 3, 2] = True
    assert crops.boxes_of(masks).tolist() == [[1, 2, 3, 3], [0, 0, 0, 0]]
