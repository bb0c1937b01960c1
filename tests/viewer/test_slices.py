"""Slices are drawn in radiological orientation, with a black background."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from viewer_example import head_slice as head

from brats_jax.viewer import slices


def test_anterior_is_up_and_left_is_on_the_right():
    image = head()
    axis = Figure().subplots()
    slices.draw_slice(axis, image, image > 0, (slice(0, 24), slice(0, 30)))
    drawn = axis.images[0]
    # x (first axis, towards Left) runs to the right, y (second, towards Posterior) down.
    np.testing.assert_array_equal(drawn.get_array(), image.T)
    assert drawn.origin == "upper"
    texts = {text.get_text(): text.get_position()[0] for text in axis.texts}
    assert texts["R"] < 0.5 < texts["L"]


def test_prediction_has_the_grey_window_of_its_target():
    target, prediction = head(1.0), head(3.0)
    first, second = Figure().subplots(1, 2)
    window = (slice(0, 24), slice(0, 30))
    slices.draw_slice(first, target, target > 0, window)
    slices.draw_slice(second, prediction, target > 0, window, like=target)
    assert first.images[0].get_clim() == second.images[0].get_clim()


@pytest.mark.parametrize("background", [-0.5, 0.0, 1.0])
def test_background_is_black_wherever_normalisation_put_it(background):
    image = np.full((24, 30), background, np.float32)
    image[5:19, 4:26] = np.linspace(0.1, 2.0, 14 * 22).reshape(14, 22)  # 1.0 lies within
    axis = Figure().subplots()
    slices.draw_slice(axis, image, slices.head_mask([image]), (slice(0, 24), slice(0, 30)))
    drawn = axis.images[0]
    assert drawn.get_array()[0, 0] <= drawn.get_clim()[0]


def test_windows_hold_their_heads_and_share_one_size():
    heads = np.zeros((3, 100, 120), bool)
    heads[0, 10:50, 20:90] = True  # 40 x 70
    heads[1, 60:100, 0:30] = True  # 40 x 30, in a corner
    windows = slices.common_windows(heads)  # the third slice is empty
    for mask, (rows, columns) in zip(heads, windows, strict=True):
        assert mask[rows, columns].sum() == mask.sum()
    assert windows[2] == (slice(0, 100), slice(0, 120))
    pair = slices.common_windows(heads[:2])
    assert {(r.stop - r.start, c.stop - c.start) for r, c in pair} == {(48, 78)}
    assert pair[0] == (slice(6, 54), slice(16, 94))  # a margin of 4 around
    assert all(r.stop <= 100 and c.stop <= 120 for r, c in pair)
