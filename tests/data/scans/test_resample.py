import numpy as np

from brats_jax.data.scans.resample import Grid, resample, straight_grid

TWO_MM = Grid(np.diag([-2.0, -2.0, 2.0, 1.0]), (4, 5, 6))


def test_a_straight_grid_covers_the_same_field_of_view():
    new = straight_grid(TWO_MM, np.ones(TWO_MM.shape, bool), None)
    assert new.shape == (7, 9, 11)  # centres 0 to 6, 0 to 8, 0 to 10 mm
    np.testing.assert_array_equal(new.affine, np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert TWO_MM.is_near(TWO_MM) and not TWO_MM.is_near(new)


def test_numbers_are_interpolated_and_labels_are_not():
    new = straight_grid(TWO_MM, np.ones(TWO_MM.shape, bool), None)
    ramp = np.broadcast_to(np.arange(4.0)[:, None, None], TWO_MM.shape)
    linear = resample(ramp, TWO_MM, new, nearest=False)
    np.testing.assert_allclose(linear[:, 0, 0], np.arange(7) / 2, atol=1e-6)
    labels = resample(ramp.astype(np.uint8), TWO_MM, new, nearest=True)
    assert labels.dtype == np.uint8 and set(np.unique(labels)) == {0, 1, 2, 3}


def test_a_grid_of_one_millimetre_is_shifted_by_whole_voxels():
    old = Grid(np.diag([-1.0, -1.0, 1.0, 1.0]), (20, 20, 3))
    brain = np.zeros(old.shape, bool)
    brain[2:6, 10:18] = True
    new = straight_grid(old, brain, (10, 10))
    moved = resample(brain.astype(np.uint8), old, new, nearest=False)
    assert moved.shape == (10, 10, 3) and set(np.unique(moved)) == {0, 1}
    assert moved.sum() == brain.sum()
