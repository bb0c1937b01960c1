"""Surface distances by area: boxes by hand, and DeepMind's and the challenge's values."""

import math
from pathlib import Path

import numpy as np
import pytest

from brats_jax.metrics import surface_by_area

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "lesions.npz")
SURFACES = np.load(Path(__file__).parents[1] / "golden" / "surface_metrics.npz")
REGIONS = ((1, 2, 3), (1, 3), (3,))


def areas_of(mask, spacing_mm=(1.0, 1.0, 1.0)):
    """Areas of all surface elements of a mask."""
    return surface_by_area.surface_elements(mask, mask, spacing_mm).pred_area


def test_a_voxel_is_an_octahedron_of_eight_triangles():
    # Each corner cuts off an equilateral triangle of side sqrt(1/2).
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    np.testing.assert_allclose(areas_of(mask), [math.sqrt(3) / 8] * 8)


def test_inside_a_face_an_element_has_the_area_of_a_voxels_face():
    mask = np.ones((4, 5, 6), bool)
    areas = areas_of(mask, (1.0, 2.0, 3.0))
    # Corners of voxels inside each face of the box, on both sides of it.
    for area, corners in ((2 * 3, 4 * 5), (1 * 3, 3 * 5), (1 * 2, 3 * 4)):
        assert np.isclose(areas, area).sum() == 2 * corners


def test_a_hole_has_the_surface_of_the_voxel_that_fills_it():
    solid = np.ones((7, 7, 7), bool)
    hollow = solid.copy()
    hollow[3, 3, 3] = False
    assert areas_of(hollow).sum() - areas_of(solid).sum() == pytest.approx(math.sqrt(3))


def test_a_plane_moved_by_a_voxel_is_that_far_away():
    target = np.zeros((6, 8, 8), bool)
    target[:2] = True
    elements = surface_by_area.surface_elements(np.roll(target, 1, 0) | target, target, (2, 1, 1))
    assert surface_by_area.hd95(elements) == 2
    assert surface_by_area.surface_dice(elements, 2.0) == 1
    assert surface_by_area.surface_dice(elements, 1.9) < 1


def test_an_empty_mask_is_infinitely_far_and_has_no_surface_dice():
    mask = np.ones((2, 2, 2), bool)
    elements = surface_by_area.surface_elements(mask, ~mask, (1.0, 1.0, 1.0))
    assert surface_by_area.hd95(elements) == math.inf
    assert math.isnan(surface_by_area.surface_dice(elements, 1.0))


def test_hd95_of_whole_volumes_is_the_challenges():
    column = list(GOLDEN["columns"]).index("Legacy_HD95")
    for spacing, values in zip(GOLDEN["spacings_mm"], GOLDEN["values"], strict=True):
        for b, r in np.ndindex(values.shape[:2]):
            p, t = (np.isin(GOLDEN[x][b], REGIONS[r]) for x in ("prediction", "target"))
            if p.any() or t.any():
                got = min(
                    surface_by_area.hd95(surface_by_area.surface_elements(p, t, tuple(spacing))),
                    374,
                )
                assert got == pytest.approx(values[b, r, column], rel=1e-6)


def test_hd95_is_deepminds():
    column = list(SURFACES["names"]).index("deepmind_hd95")
    for spacing, values in zip(SURFACES["spacings_mm_3d"], SURFACES["values_3d"], strict=True):
        for b, r in np.ndindex(values.shape[:2]):
            p, t = (np.isin(SURFACES[f"{x}_3d"][b], REGIONS[r]) for x in ("prediction", "target"))
            got = surface_by_area.hd95(surface_by_area.surface_elements(p, t, tuple(spacing)))
            if p.any() and t.any():
                assert got == pytest.approx(values[b, r, column], rel=1e-6)
            else:
                assert got == math.inf and np.isnan(values[b, r, column])


def test_surface_dice_by_area_is_deepminds():
    column = list(SURFACES["names"]).index("deepmind_nsd")
    tolerance = float(SURFACES["tolerance_mm"])
    for spacing, values in zip(SURFACES["spacings_mm_3d"], SURFACES["values_3d"], strict=True):
        for b, r in np.ndindex(values.shape[:2]):
            p, t = (np.isin(SURFACES[f"{x}_3d"][b], REGIONS[r]) for x in ("prediction", "target"))
            got = surface_by_area.surface_dice(
                surface_by_area.surface_elements(p, t, tuple(spacing)), tolerance
            )
            assert got == pytest.approx(values[b, r, column], rel=1e-6, nan_ok=True)
