"""Fields of the phantom: exact where they can be, of unit variance where they are noise."""

import numpy as np
import pytest

from brats_jax.data.sources.phantom.grid import (
    BOX_MM,
    FIELD_OF_VIEW_MM,
    PhantomGrid,
    Voxels,
    ramp,
    random_stream,
)

SHAPE = (31, 60, 60)  # voxels of 5 x 4 x 4 mm


def test_voxels_of_the_box_lie_where_the_volume_has_them():
    grid = PhantomGrid(SHAPE, limits=((10, 20), (44, 60), (236, 250)))
    assert grid.spacing_mm == (5.0, 4.0, 4.0)
    assert grid.box == (slice(2, 4), slice(11, 15), slice(59, 60))  # cut at the end of the volume
    assert grid.fine_mm[0].tolist() == [12.5, 17.5]  # centres of the voxels
    assert grid.fine_mm[1].tolist() == [46.0, 50.0, 54.0, 58.0]


def test_interpolation_keeps_linear_fields():
    grid = PhantomGrid(SHAPE)
    z, x, y = np.meshgrid(*grid.coarse_mm, indexing="ij")
    fine = grid.refine((2 * z - x + 0.5 * y).astype(np.float32))
    z, x, y = np.meshgrid(*grid.fine_mm, indexing="ij")
    # Away from the ends of the axes, where there is nothing to look up.
    inner = np.s_[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(fine[inner], (2 * z - x + 0.5 * y)[inner], atol=2e-3)
    assert fine.dtype == np.float32 and fine.shape == grid.shape


@pytest.mark.parametrize("scale_mm", [3.0, 9.0])
def test_noise_has_unit_variance_and_the_correlation_it_promises(scale_mm):
    grid = PhantomGrid((155, 240, 240), limits=((20, 130), (50, 190), (40, 220)))
    field = grid.noise(np.random.default_rng(0), scale_mm, fine=True)
    samples = field.size / (2 * np.sqrt(np.pi) * scale_mm) ** 3  # effective number
    assert abs(field.mean()) < 5 / np.sqrt(samples)
    assert field.var() == pytest.approx(1.0, abs=0.1)
    for lag in (3, 9):  # exp(-r^2 / (4 s^2)), along each axis
        want = np.exp(-(lag**2) / (4 * scale_mm**2))
        for axis in range(3):
            a = np.moveaxis(field, axis, 0)
            assert np.mean(a[lag:] * a[:-lag]) == pytest.approx(want, abs=0.1)


def test_box_of_a_field_has_a_margin():
    grid = PhantomGrid(SHAPE)
    field = -np.ones([len(axis) for axis in grid.coarse_mm], np.float32)
    field[10:13, 5, 7] = 1
    low = [axis[i] for axis, i in zip(grid.coarse_mm, (10, 5, 7), strict=True)]
    high = [axis[i] for axis, i in zip(grid.coarse_mm, (12, 5, 7), strict=True)]
    want = [(a - 4, b + 4) for a, b in zip(low, high, strict=True)]
    np.testing.assert_allclose(grid.limits_of(field), want)


def test_the_box_lies_in_the_field_of_view():
    for (low, high), size in zip(BOX_MM, FIELD_OF_VIEW_MM, strict=True):
        assert 0 <= low < high <= size


def test_voxels_scatter_what_they_gather():
    grid = PhantomGrid(SHAPE)
    rng = np.random.default_rng(0)
    volume = rng.standard_normal(grid.shape).astype(np.float32)
    inside = volume > 0.5
    voxels = Voxels(grid, inside)
    np.testing.assert_array_equal(voxels.scatter(voxels.gather(volume)), volume * inside)


def test_ramp_is_the_share_of_a_voxel_beyond_an_edge():
    distance = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    assert ramp(distance, 2.0).tolist() == [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_streams_differ_by_seed_patient_and_purpose():
    keys = [(0, 0, "head"), (1, 0, "head"), (0, 1, "head"), (0, 0, "scan")]
    draws = [random_stream(*key).random() for key in keys]
    assert len(set(draws)) == 4
    assert random_stream(0, 0, "head").random() == draws[0]
