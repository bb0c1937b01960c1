"""ASD, HD95 and surface Dice in 2D and 3D: by hand, and as medpy and MONAI compute them."""

import math
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import ndimage

from brats_jax.errors import BratsError
from brats_jax.metrics import surface

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "surface_metrics.npz")
NAMES = list(GOLDEN["names"])
TOLERANCE_MM = float(GOLDEN["tolerance_mm"])
REGIONS = ((1, 2, 3), (1, 3), (3,))
BACKENDS = ("host", "device", "plain")
each_backend = pytest.mark.parametrize("backend", BACKENDS)
EMPTY = ((False, False), (False, True), (True, False), (True, True))


def cube(*corner, size=3, shape=(9, 10, 11)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(c, c + size) for c in corner)] = True
    return mask


def one(prediction, target, backend, spacing_mm=None, tolerance_mm=1.0):
    return jax.tree.map(
        lambda x: x[0],
        surface.surface_statistics(
            prediction[None], target[None], spacing_mm, tolerance_mm=tolerance_mm, backend=backend
        ),
    )


def assert_variants(statistics, expected, rtol=1e-5):
    """Compares every variant with an array [..., name] of other packages' values."""
    pred_to_gt, gt_to_pred = surface.directed_means(statistics)
    got = {
        "medpy_asd_pred_to_gt": pred_to_gt,
        "medpy_asd_gt_to_pred": gt_to_pred,
        "medpy_assd": surface.pooled_mean(statistics),
        "medpy_hd95": surface.hd95(statistics),
        "monai_hd95_pred_to_gt": statistics.p95_pred_to_gt,
        "monai_hd95_gt_to_pred": statistics.p95_gt_to_pred,
        "monai_hd95": surface.hd95(statistics, "max_directed"),
        "monai_pooled_asd": surface.pooled_mean(statistics),
        "monai_nsd": surface.surface_dice(statistics),
    }
    for name, values in got.items():
        np.testing.assert_allclose(
            values, expected[..., NAMES.index(name)], rtol=rtol, atol=1e-6, err_msg=name
        )
    averaged = expected[..., :2].mean(axis=-1)  # medpy's two directed means
    np.testing.assert_allclose(surface.averaged_mean(statistics), averaged, rtol=rtol)


@each_backend
def test_cubes_one_voxel_apart(backend):
    # 3 x 3 x 3 cubes of 26 boundary voxels, one shifted by a voxel along the last axis. Of the
    # 9 lines along that axis 8 lie on the side of the other cube and overhang it by one voxel;
    # the middle one adds that overhang and the voxel whose line partner is the other's core.
    s = one(cube(2, 2, 2), cube(2, 2, 3), backend, tolerance_mm=0.5)
    assert (int(s.n_pred), int(s.n_gt)) == (26, 26)
    assert float(s.sum_pred_to_gt) == float(s.sum_gt_to_pred) == 8 + 2
    assert surface.pooled_mean(s) == pytest.approx(20 / 52)
    assert surface.hd95(s) == surface.hd95(s, "max_directed") == 1
    assert surface.surface_dice(s) == pytest.approx((16 + 16) / 52)
    assert surface.surface_dice(one(cube(2, 2, 2), cube(2, 2, 3), backend)) == 1


@each_backend
def test_single_voxels_and_spacing(backend):
    a, b = cube(1, 2, 3, size=1), cube(3, 5, 9, size=1)
    for spacing, expected in ((None, 7.0), ((3.0, 0.5, 2.0), math.sqrt(36 + 2.25 + 144))):
        s = one(a, b, backend, spacing)
        for value in (surface.pooled_mean(s), surface.hd95(s), *surface.directed_means(s)):
            assert value == pytest.approx(expected, rel=1e-6)


@each_backend
def test_percentiles_by_hand(backend):
    # 21 pixels in a column; against its first pixel the distances are 0, 1, ..., 20, whose
    # 95th percentile is 0.95 * 20 = 19. Pooled with the single 0 back: rank 0.95 * 21 = 19.95
    # of 0, 0, 1, ..., 20.
    line, dot = np.zeros((2, 25, 3), bool)
    line[2:23, 1], dot[2, 1] = True, True
    s = one(line, dot, backend, tolerance_mm=4.0)
    assert s.p95_pred_to_gt == pytest.approx(19)
    assert s.p95_gt_to_pred == 0
    assert surface.hd95(s) == s.p95_pooled == pytest.approx(18.95, rel=1e-6)
    assert surface.hd95(s, "max_directed") == pytest.approx(19)
    assert (int(s.n_pred_within), int(s.n_gt_within)) == (5, 1)
    pred_to_gt, gt_to_pred = surface.directed_means(s)
    assert (float(pred_to_gt), float(gt_to_pred)) == (10, 0)
    assert surface.averaged_mean(s) == 5
    assert surface.pooled_mean(s) == pytest.approx(210 / 22)


@each_backend
def test_a_distance_equal_to_the_tolerance_is_within(backend):
    a, b = cube(1, 1, 1, size=1), cube(1, 1, 4, size=1)
    # 3 x 0.1 is 0.30000000000000004.
    assert one(a, b, backend, (1.0, 1.0, 0.1), tolerance_mm=0.3).n_pred_within == 1
    assert one(a, b, backend, (1.0, 1.0, 0.1), tolerance_mm=0.29).n_pred_within == 0


@each_backend
def test_volumes_are_scipys(backend):
    rng = np.random.default_rng(4)
    smooth = ndimage.gaussian_filter(rng.standard_normal((2, 5, 17, 21, 14)), (0, 0, 2, 2, 1))
    prediction, target = smooth > 0.02
    target[3], prediction[4] = ~cube(4, 4, 4, shape=(17, 21, 14)), True
    for spacing in ((1.0, 1.0, 1.0), (0.7, 1.2, 2.5)):
        got = surface.surface_statistics(
            prediction, target, spacing, tolerance_mm=TOLERANCE_MM, backend=backend
        )
        for i in range(5):
            a, b = (m[i] & ~ndimage.binary_erosion(m[i]) for m in (prediction, target))
            there = ndimage.distance_transform_edt(~b, spacing)[a]
            back = ndimage.distance_transform_edt(~a, spacing)[b]
            expected = (
                *(there.sum(), there.size, back.sum(), back.size),
                *(np.percentile(d, 95) for d in (there, back, np.concatenate([there, back]))),
                *((d <= TOLERANCE_MM).sum() for d in (there, back)),
            )
            np.testing.assert_allclose([x[i] for x in got], expected, rtol=1e-6)


@each_backend
@pytest.mark.parametrize("dims", [2, 3])
def test_regions_match_medpy_and_monai(backend, dims):
    for spacing, expected in zip(
        GOLDEN[f"spacings_mm_{dims}d"], GOLDEN[f"values_{dims}d"], strict=True
    ):
        s = surface.region_surface_statistics(
            *(GOLDEN[f"{name}_{dims}d"] for name in ("prediction", "target")),
            REGIONS,
            tuple(spacing),
            tolerance_mm=TOLERANCE_MM,
            backend=backend,
        )
        assert_variants(s, expected)
    assert np.isnan(expected[..., NAMES.index("medpy_hd95")]).sum() >= 1  # an empty one is there


def test_deepminds_surface_dice_is_another_number():
    s = surface.region_surface_statistics(
        GOLDEN["prediction_3d"], GOLDEN["target_3d"], REGIONS, tolerance_mm=TOLERANCE_MM
    )
    theirs = GOLDEN["values_3d"][0][..., NAMES.index("deepmind_nsd")]
    difference = np.abs(np.asarray(surface.surface_dice(s)) - theirs)
    assert 0.01 < np.nanmax(difference) < 0.15


@each_backend
def test_classes_are_regions_of_one_label(backend):
    maps = GOLDEN["prediction_3d"], GOLDEN["target_3d"]
    classes = surface.class_surface_statistics(*maps, 4, (0.7, 1.2, 2.5), backend=backend)
    for k in range(4):
        masks = (m == k for m in maps)
        alone = surface.surface_statistics(*masks, (0.7, 1.2, 2.5), backend=backend)
        for all_of_them, one_of_them in zip(classes, alone, strict=True):
            np.testing.assert_array_equal(all_of_them[:, k], one_of_them)


def test_regions_inside_jit():
    maps = GOLDEN["prediction_2d"], GOLDEN["target_2d"]
    jitted = jax.jit(lambda p, t: surface.region_surface_statistics(p, t, REGIONS))(*maps)
    eager = surface.region_surface_statistics(*maps, REGIONS)
    for a, b in zip(jitted, eager, strict=True):
        assert a.shape == (6, 3) and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6)


@each_backend
@pytest.mark.parametrize("spatial", [(6, 7), (6, 7, 5)])
def test_empty_masks_under_every_convention(backend, spatial):
    masks = np.zeros((2, 4, *spatial), bool)
    for i, filled in enumerate(EMPTY):
        for mask, fill in zip(masks, filled, strict=True):
            mask[i, 2:4, 2:4] = fill
    s = surface.surface_statistics(*masks, backend=backend)
    nan = math.nan
    for distance in (surface.pooled_mean(s), surface.averaged_mean(s), surface.hd95(s)):
        np.testing.assert_array_equal(distance, [nan, nan, nan, 0])
        for convention, expected in {
            "present_only": [nan, nan, nan, 0],
            "brats2020": [0, 373.1287, 373.1287, 0],
            "brats2023": [0, 374, 374, 0],
        }.items():
            filled = surface.fill_empty(distance, s, convention)
            np.testing.assert_allclose(filled, expected, atol=1e-4)
    np.testing.assert_array_equal(surface.hd95(s, "max_directed"), [nan, nan, nan, 0])
    np.testing.assert_array_equal(surface.surface_dice(s), [nan, 0, 0, 1])
    np.testing.assert_array_equal(surface.surface_dice(s, 1.0), [1, 0, 0, 1])


def test_a_missed_region_never_improves_the_mean():
    # The trap in MONAI's percentile=95, which drops the NaN of an empty mask.
    near, far, empty = cube(2, 2, 2), cube(5, 6, 7), np.zeros((9, 10, 11), bool)
    target = np.stack([near, near])
    for convention in ("brats2020", "brats2023"):
        found, missed = (
            surface.fill_empty(surface.hd95(s), s, convention).mean()
            for s in (
                surface.surface_statistics(np.stack([near, other]), target)
                for other in (far, empty)
            )
        )
        assert missed > found


def test_unknown_names_are_refused_with_the_valid_ones():
    s = one(cube(2, 2, 2), cube(2, 2, 3), "host")
    with pytest.raises(BratsError, match="pooled, max_directed"):
        surface.hd95(s, "max")
    with pytest.raises(BratsError, match="present_only, brats2020, brats2023"):
        surface.fill_empty(surface.hd95(s), s, "brats2021")


@pytest.mark.real
@pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="no real cases")
def test_real_volumes_match_medpy_and_monai(real_cases):
    seen = []
    for case, prediction, target in real_cases.pairs(os.environ["BRATS_REAL_DATA"]):
        if case in GOLDEN["cases"]:
            s = surface.region_surface_statistics(
                prediction[None], target[None], REGIONS, tolerance_mm=TOLERANCE_MM, backend="host"
            )
            assert_variants(s, GOLDEN[f"values_{case}"][None], rtol=1e-4)
            seen.append(case)
    assert seen == real_cases.stored(os.environ["BRATS_REAL_DATA"], GOLDEN)
