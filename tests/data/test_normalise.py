import numpy as np
import pytest

from brats_jax.data.normalise import (
    brain_mask,
    normalise,
    normalise_crops,
    top_percentile,
)
from brats_jax.runtime import threads


@pytest.mark.parametrize("count", [1, 2, 3, 61, 200, 201, 1000, 57600])
@pytest.mark.parametrize("kind", ["normal", "mostly zero", "ties", "constant", "one high"])
def test_the_percentile_equals_numpys_to_the_bit(count, kind):
    rng = np.random.default_rng(count)
    values = {
        "normal": rng.standard_normal(count) * 1e3,
        "mostly zero": np.where(rng.random(count) < 0.99, 0, rng.random(count)),
        "ties": rng.integers(0, 4, count).astype(float),
        "constant": np.full(count, 7.3),
        "one high": np.eye(1, count)[0],
    }[kind]
    for percent in (50.0, 90.0, 99.5, 99.9, 100.0):
        expected = np.percentile(values, percent)
        assert top_percentile(values, percent) == expected
        # Some of the values left out, because they are all one.
        for background in (values.min(), values.max(), np.median(values)):
            others = values[values != background]
            if len(others):
                beside, rest = count - len(others), float(background)
                found = top_percentile(others, percent, beside=beside, background=rest)
                assert found == expected


def test_a_slice_computed_by_hand():
    # 201 pixels: rank 199 of the sorted values, exactly: the one outlier is cut to 1.
    plane = np.array([0.0] * 100 + [1.0] * 100 + [50.0]).reshape(3, 67)
    images = np.stack([plane] * 4, axis=-1)[None]
    mean = 101 / 201
    deviation = np.sqrt(mean * (1 - mean))
    expected = np.where(plane == 0, -mean, 1 - mean) / deviation
    np.testing.assert_allclose(normalise(images, "slice")[0, ..., 2], expected, rtol=1e-3)


def test_slices_equal_numpys_formula():
    rng = np.random.default_rng(0)
    images = rng.gamma(2.0, 200.0, size=(3, 32, 30, 4)) * (rng.random((3, 32, 30, 1)) < 0.4)
    result = normalise(images.astype(np.float32), "slice")
    assert result.dtype == np.float16
    for s in range(3):
        for c in range(4):
            plane = images[s, ..., c].astype(np.float32).astype(np.float64)
            plane = np.minimum(plane, np.percentile(plane, 99.5))
            expected = ((plane - plane.mean()) / plane.std()).astype(np.float16)
            np.testing.assert_array_equal(result[s, ..., c], expected)


@pytest.mark.parametrize("how", ["slice", "volume", "robust"])
@pytest.mark.parametrize("kind", ["brain", "negative", "wide", "few", "constant"])
def test_integers_give_the_bits_of_floats(how, kind):
    rng = np.random.default_rng(3)
    shape = (5, 40, 36, 4)
    brain = rng.random(shape) < 0.4
    images = {
        "brain": (rng.gamma(2.0, 200.0, shape) * brain).astype(np.int16),
        "negative": (rng.integers(-300, 900, shape) * brain).astype(np.int16),
        # A table would be longer than the slice.
        "wide": (rng.integers(-32768, 32768, shape) * brain).astype(np.int16),
        "few": (rng.integers(0, 3, shape) * brain).astype(np.uint8),
        "constant": np.full(shape, 7, np.uint16),
    }[kind]
    result = normalise(images, how)
    np.testing.assert_array_equal(
        result.view(np.uint16), normalise(images.astype(np.float32), how).view(np.uint16)
    )
    assert result.any() == (kind != "constant")
    for s in range(len(images)) if how == "slice" else ():
        plane = images[s, ..., 1].astype(np.float64)
        plane = np.minimum(plane, np.percentile(plane, 99.5))
        with np.errstate(invalid="ignore"):
            expected = np.nan_to_num((plane - plane.mean()) / plane.std())
        np.testing.assert_array_equal(result[s, ..., 1], expected.astype(np.float16))


def test_bits_do_not_depend_on_threads(monkeypatch):
    images = np.random.default_rng(4).integers(0, 900, (9, 32, 30, 4)).astype(np.int16)
    results = []
    for count in (1, 3):
        monkeypatch.setattr(threads, "available_cpus", lambda count=count: count)
        results += [normalise(images, "slice"), normalise(images, "volume")]
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[3])


@pytest.mark.parametrize("value", [0.0, 7.0, -3.5, 1e30])
def test_constant_slices_become_zeros(value):
    assert not normalise(np.full((1, 8, 8, 4), value), "slice").any()


def test_a_slice_that_is_constant_after_clipping_becomes_zeros():
    images = np.zeros((1, 40, 40, 4))
    images[0, 3, 4] = 900.0  # one pixel of 1600 lies above the percentile
    assert not normalise(images, "slice").any()


def test_faint_slices_are_normalised_too():
    images = np.full((1, 10, 10, 4), 1.0)
    images[0, :5] += 1e-12
    result = normalise(images, "slice")
    np.testing.assert_allclose(np.abs(result.astype(float)), 1.0, rtol=1e-3)


@pytest.mark.parametrize("scale, offset", [(3.0, 0.0), (0.01, -5.0), (1e4, 1e5)])
def test_slices_do_not_depend_on_units(scale, offset):
    rng = np.random.default_rng(1)
    images = np.rint(rng.gamma(2.0, 200.0, size=(2, 24, 24, 4)))
    one, other = normalise(images, "slice"), normalise(images * scale + offset, "slice")
    np.testing.assert_allclose(one.astype(float), other.astype(float), atol=4e-3)


def test_a_volume_computed_by_hand():
    images = np.zeros((2, 2, 2, 4))
    images[0, 0, 0] = [1, 10, 0, 5]
    images[0, 0, 1] = [3, 10, 0, 5]
    images[1, 1, 1] = [2, 10, 8, 0]
    result = normalise(images, "volume").astype(float)
    brain = brain_mask(images)
    assert brain.sum() == 3
    assert not result[~brain].any()
    # Ranks of three values: the 99.5th percentile lies at 1.99, so 3 becomes 2.99.
    ceiling = 2 + 0.99
    values = np.array([1, ceiling, 2])
    expected = (values - values.mean()) / values.std()
    np.testing.assert_allclose(result[brain][:, 0], expected, atol=1e-3)
    assert not result[brain][:, 1].any()  # constant in the brain
    values = np.array([0, 0, 0.99 * 8])  # zero inside the brain counts
    np.testing.assert_allclose(
        result[brain][:, 2], (values - values.mean()) / values.std(), atol=1e-3
    )


def test_robust_scores_are_computed_by_hand_and_a_tumour_does_not_move_them():
    images = np.zeros((1, 40, 40, 1))
    images[0, :30, :30, 0] = np.arange(1, 901).reshape(30, 30)
    scores = normalise(images, "robust").astype(float)
    # Quartiles of 1 to 900: 225.75, 450.5, 675.25.
    unit = (675.25 - 225.75) / 1.3489795
    assert scores[0, 10, 0, 0] == pytest.approx((301 - 450.5) / unit, rel=1e-3)
    assert not scores[0, 30:].any()
    bright = images.copy()
    bright[0, 29, :30, 0] = 5000  # 3 % of the voxels, which were above the third quartile
    again = normalise(bright, "robust").astype(float)
    np.testing.assert_array_equal(again[0, :25], scores[0, :25])
    assert (normalise(bright, "volume")[0, :25] != normalise(images, "volume")[0, :25]).any()


def test_robust_scores_of_mostly_equal_values_use_the_standard_deviation():
    images = np.ones((1, 20, 20, 1))
    images[0, 0, :5] = 3
    assert normalise(images, "robust")[0, 0, 0, 0] == pytest.approx(2 / images.std(), rel=1e-3)


def test_a_blank_volume_becomes_zeros():
    assert not normalise(np.zeros((2, 4, 4, 4)), "volume").any()


def test_extreme_values_stay_finite():
    images = np.zeros((1, 64, 64, 4))
    images[0, 0, :30] = -1e30  # clipping is from above only
    assert np.isfinite(normalise(images, "slice")).all()
    assert np.isfinite(normalise(images, "volume")).all()
    assert np.isfinite(normalise(images, "robust")).all()


@pytest.mark.parametrize("how", ["slice", "volume", "robust"])
def test_the_background_has_the_score_of_its_pixels(how):
    """A head in a frame, its background not the lowest value in one channel."""
    rng = np.random.default_rng(5)
    images = np.zeros((4, 40, 36, 4), np.int16)
    images[:3, 9:30, 5:25] = rng.integers(1, 900, (3, 21, 20, 4))
    images[1, 9:30, 5:25, 2] -= 1000
    images[2, 0, 0] = 5 * (how == "slice")  # no background in its corner: kept whole
    found = normalise_crops(images, how)
    size = [40, 36] if how == "slice" else [21, 20]
    assert found.boxes[:, 2:].tolist() == [[21, 20], [21, 20], size, [0, 0]]
    assert found.boxes[0].tolist() == [9, 5, 21, 20]
    whole = found.full()
    for s in range(4) if how == "slice" else ():
        for c in range(4):
            plane = images[s, ..., c].astype(np.float64)
            plane = np.minimum(plane, np.percentile(plane, 99.5))
            with np.errstate(invalid="ignore"):
                expected = np.nan_to_num((plane - plane.mean()) / plane.std())
            np.testing.assert_array_equal(whole[s, ..., c], expected.astype(np.float16))
    if how != "slice":
        assert not whole[(images == 0).all(axis=-1)].any()
