"""Surface distances, host and device: squares by hand, the definition, MONAI and medpy."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import ndimage

from brats_jax.errors import BratsError
from brats_jax.metrics import surface, surface_plain
from brats_jax.runtime import forms

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "overlap_and_surface.npz")
BACKENDS = ("host", "device", "plain")
each_backend = pytest.mark.parametrize("backend", BACKENDS)
SHAPE = (21, 26)
TOLERANCE_MM = 1.9  # no sum of the grids' steps


def square(top, left, size=3, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[top : top + size, left : left + size] = True
    return mask


def asd(prediction, target, backend, spacing_mm=(1.0, 1.0)):
    return surface.average_surface_distance(
        prediction[None], target[None], spacing_mm, backend=backend
    )[0]


def plain_statistics(prediction, target, spacing_mm):
    """The definition, without crops or shortcuts, in float64: rows of nine values."""
    fields = surface_plain.statistics(prediction, target, (None,), spacing_mm, TOLERANCE_MM)
    return np.stack(fields, axis=1)


def plain_asd(prediction, target, spacing_mm):
    rows = plain_statistics(prediction, target, spacing_mm)
    return (rows[:, 0] + rows[:, 2]) / (rows[:, 1] + rows[:, 3])


def random_pairs(seed=3):
    """Blobs, speckle, frames, and masks that touch or fill the image: bool[2, N, H, W]."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((2, 8, *SHAPE)), (0, 0, 2, 2))
    pairs = smooth > rng.uniform(-0.1, 0.2, (2, 8, 1, 1))
    speckle = rng.random((2, 3, *SHAPE)) < np.array([0.05, 0.5, 0.9])[:, None, None]
    background = ~np.stack([[square(4, 5, 6)], [square(5, 5, 8)]])
    full = np.stack([[np.ones(SHAPE, bool)], [square(0, 0, 4)]])
    corners = np.stack([[square(0, 0, 1)], [square(20, 25, 1)]])
    return np.concatenate([pairs, speckle, background, full, corners], axis=1)


def test_boundary_by_hand():
    mask = np.array(
        [[0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 0, 1, 0]], bool
    )  # the pixels that lie against the edge of the image are boundary
    expected = np.array([[0, 1, 1, 1, 1], [0, 1, 0, 0, 1], [0, 1, 1, 0, 1], [0, 0, 0, 1, 0]], bool)
    np.testing.assert_array_equal(surface.boundary(mask), expected)
    np.testing.assert_array_equal(surface.boundary(~mask[None])[0], ~mask)


def test_boundary_is_scipys():
    masks = random_pairs().reshape(-1, *SHAPE)
    expected = [m & ~ndimage.binary_erosion(m, border_value=0) for m in masks]
    np.testing.assert_array_equal(surface.boundary(masks), expected)


@each_backend
def test_squares_one_pixel_apart(backend):
    # 3 x 3 squares, one shifted by a column: 8 boundary pixels each. Of either, the 4 in the
    # shared upper and lower rows are on the other's boundary, and the 3 of the far column and
    # the middle of the near one are 1 away from it.
    assert asd(square(5, 5), square(5, 6), backend) == pytest.approx((4 + 4) / 16)


@each_backend
def test_single_pixels_and_spacing(backend):
    a, b = square(2, 3, 1), square(5, 7, 1)
    assert asd(a, b, backend) == pytest.approx(5)  # 3, 4, 5
    assert asd(a, b, backend, (2.0, 0.5)) == pytest.approx(np.hypot(6, 2))
    assert asd(a, b, backend, (0.5, 2.0)) == pytest.approx(np.hypot(1.5, 8))
    # A pixel before a square of 2 x 2, 3 columns on: 3 there; 3, 4 and the diagonals back.
    pooled = (3 + 3 + 4 + np.hypot(1, 3) + np.hypot(1, 4)) / 5
    assert asd(square(2, 3, 1), square(2, 6, 2), backend) == pytest.approx(pooled)


@each_backend
def test_identical_masks_have_distance_0(backend):
    for mask in (square(0, 0, 5), np.ones(SHAPE, bool), ~square(8, 8)):
        assert asd(mask, mask, backend) == 0


@each_backend
def test_full_mask_against_a_corner(backend):
    # The boundary of a full 3 x 3 image is its frame; the corner pixel is on it.
    full, corner = np.ones((3, 3), bool), square(0, 0, 1, (3, 3))
    frame = 0 + 1 + 2 + 1 + 2 + np.sqrt(5) + np.sqrt(5) + np.sqrt(8)
    assert asd(full, corner, backend) == pytest.approx(frame / 9)


@each_backend
def test_empty_masks_are_nan_with_their_counts(backend):
    empty, some = np.zeros((1, *SHAPE), bool), square(2, 2)[None]
    for p, g, n_pred, n_gt in ((empty, some, 0, 8), (some, empty, 8, 0), (empty, empty, 0, 0)):
        assert np.isnan(surface.average_surface_distance(p, g, backend=backend)).all()
        statistics = surface.surface_statistics(p, g, backend=backend)
        assert np.isnan(statistics.sum_pred_to_gt[0]) and np.isnan(statistics.sum_gt_to_pred[0])
        assert (int(statistics.n_pred[0]), int(statistics.n_gt[0])) == (n_pred, n_gt)


@each_backend
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (3.0, 0.8)])
def test_statistics_are_those_of_the_definition(backend, spacing_mm):
    prediction, target = random_pairs()
    expected = plain_statistics(prediction, target, spacing_mm)
    statistics = surface.surface_statistics(
        prediction, target, spacing_mm, tolerance_mm=TOLERANCE_MM, backend=backend
    )
    np.testing.assert_allclose(np.stack(statistics, axis=1), expected, rtol=1e-6)
    got = surface.average_surface_distance(prediction, target, spacing_mm, backend=backend)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, plain_asd(prediction, target, spacing_mm), atol=1e-5)


@each_backend
def test_full_slices_to_a_ten_thousandth_of_a_millimetre(backend):
    rng = np.random.default_rng(5)
    smooth = ndimage.gaussian_filter(rng.standard_normal((2, 240, 240)), (0, 8, 8))
    far = [rng.random((240, 240)) < 0.5, square(231, 229, 6, (240, 240))]
    prediction, target = (np.stack([s > 0.02, f]) for s, f in zip(smooth, far, strict=True))
    expected = plain_asd(prediction, target, (1.0, 1.2))
    got = surface.average_surface_distance(prediction, target, (1.0, 1.2), backend=backend)
    np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)
    assert expected[1] > 100  # the long distances are there


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_the_plain_form_can_take_the_place_of_every_backend(backend, monkeypatch):
    prediction, target = random_pairs()
    monkeypatch.setenv(forms.VARIABLE, "surface")
    found = surface.surface_statistics(
        prediction, target, (3.0, 0.8), tolerance_mm=TOLERANCE_MM, backend=backend
    )
    expected = plain_statistics(prediction, target, (3.0, 0.8)).astype(np.float32)
    np.testing.assert_array_equal(np.stack(found, axis=1), expected)


@each_backend
def test_every_class_matches_monai_and_medpy(backend):
    prediction, target = GOLDEN["prediction"], GOLDEN["target"]
    for i, spacing in enumerate(GOLDEN["spacings_mm"]):
        # MONAI writes inf where one mask is empty; here that is nan.
        pooled = GOLDEN["monai_pooled_asd"][i]
        pooled = np.where(np.isinf(pooled), np.nan, pooled)
        got = surface.class_average_surface_distance(
            prediction, target, 4, tuple(spacing), backend=backend
        )
        np.testing.assert_allclose(got, pooled, atol=1e-5)
        s = surface.class_surface_statistics(prediction, target, 4, tuple(spacing), backend=backend)
        directed = np.stack([s.sum_pred_to_gt / s.n_pred, s.sum_gt_to_pred / s.n_gt], axis=-1)
        np.testing.assert_allclose(directed, GOLDEN["medpy_directed_asd"][i], atol=1e-5)
    assert np.isnan(pooled).sum() == 2  # an absent class and a missed one are in the data


def test_slices_pool_through_their_statistics():
    prediction, target = random_pairs()
    s = surface.surface_statistics(prediction, target)
    together = (s.sum_pred_to_gt.sum() + s.sum_gt_to_pred.sum()) / (s.n_pred.sum() + s.n_gt.sum())
    weights = s.n_pred + s.n_gt
    weighted = (surface.pooled_mean(s) * weights).sum() / weights.sum()
    assert together == pytest.approx(float(weighted), rel=1e-5)


def test_auto_is_the_same_inside_jit():
    prediction, target = random_pairs()
    jitted = jax.jit(lambda p, g: surface.average_surface_distance(p, g))(prediction, target)
    eager = surface.average_surface_distance(prediction, target)
    np.testing.assert_allclose(jitted, eager, atol=1e-5)


def test_invalid_masks_spacings_and_backends_are_refused():
    mask = square(1, 1)[None]
    with pytest.raises(BratsError, match="auto, host, device"):
        surface.average_surface_distance(mask, mask, backend="gpu")
    with pytest.raises(BratsError, match="must be masks"):
        surface.average_surface_distance(mask, mask[:, :-1])
    with pytest.raises(BratsError, match="must be masks"):
        surface.average_surface_distance(mask[0], mask[0])
    for spacing in ((1.0, 0.0), (1.0, float("nan")), (1.0,), (1.0, 1.0, 1.0)):
        with pytest.raises(BratsError, match="2 positive lengths"):
            surface.average_surface_distance(mask, mask, spacing)
    with pytest.raises(BratsError, match="3 positive lengths"):
        surface.average_surface_distance(mask[None], mask[None], (1.0, 1.0))
    with pytest.raises(BratsError, match="0 or more"):
        surface.surface_statistics(mask, mask, tolerance_mm=-1.0)
    for regions in ([], [(1,), ()]):
        with pytest.raises(BratsError, match="at least one label"):
            surface.region_surface_statistics(mask, mask, regions)
    with pytest.raises(BratsError, match="label maps"):
        surface.class_average_surface_distance(mask, mask[:, :-1], 4)


@pytest.mark.real
@pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="no real cases")
def test_real_labels_are_scipys():
    import nibabel

    checked = 0
    for path in sorted(Path(os.environ["BRATS_REAL_DATA"]).rglob("*_seg.nii.gz"))[:2]:
        labels = np.asarray(nibabel.load(path).dataobj).astype(np.uint8)
        labels[labels == 4] = 3
        # A slice and its neighbour three on stand for a prediction and the truth.
        at = np.argsort((labels > 0).sum((0, 1)))[-1] + np.array([0, 6, -9])
        target, prediction = (np.moveaxis(labels[:, :, at + d], -1, 0) for d in (0, 3))
        both = [
            surface.class_average_surface_distance(prediction, target, 4, backend=b)
            for b in BACKENDS
        ]
        for b, k in np.ndindex(len(at), 4):
            p, g = prediction[b] == k, target[b] == k
            if p.any() and g.any():
                expected = plain_asd(p[None], g[None], (1.0, 1.0))[0]
                assert both[0][b, k] == pytest.approx(expected, abs=1e-4)
                assert both[1][b, k] == pytest.approx(expected, abs=1e-4)
                checked += 1
    assert checked >= 12
