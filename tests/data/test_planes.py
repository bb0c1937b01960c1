"""Slices of another plane, cut from a stack of axial ones."""

import numpy as np
import pytest

from brats_jax.data.planes import (
    PLANES,
    axes_in_words,
    is_isotropic,
    slices_along,
    spacing_along,
    to_axial,
)

STACK = np.arange(2 * 3 * 4).reshape(2, 3, 4)  # [z, x, y]


def test_slices_lie_as_their_words_say():
    """Voxel x = 2, y = 3, z = 1 in the three planes."""
    assert STACK[1, 2, 3] == 23
    assert slices_along(STACK, "axial") is STACK
    assert slices_along(STACK, "coronal")[3, 2, 1] == 23  # slice y, row x, column z
    assert slices_along(STACK, "sagittal")[2, 3, 1] == 23  # slice x, row y, column z
    assert slices_along(STACK[..., None], "sagittal").shape == (3, 4, 2, 1)
    assert [axes_in_words(plane).split(":")[0] for plane in PLANES] == [
        "LPS",
        "coronal",
        "sagittal",
    ]


@pytest.mark.parametrize("plane", PLANES)
def test_the_way_back_is_exact(plane):
    there = slices_along(STACK, plane)
    np.testing.assert_array_equal(to_axial(there, plane), STACK)
    several = np.stack([there, -there])[..., None]  # views, and channels
    back = to_axial(several, plane, first=1)
    np.testing.assert_array_equal(back[..., 0], [STACK, -STACK])


def test_spacing_is_turned_with_the_slices():
    spacing = (1.0, 2.0, 3.0)  # x, y, z
    found = [spacing_along(spacing, plane) for plane in PLANES]
    assert found == [(1.0, 2.0, 3.0), (1.0, 3.0, 2.0), (2.0, 3.0, 1.0)]
    assert is_isotropic((1.0, 1.0, 1.005)) and not is_isotropic(spacing)
