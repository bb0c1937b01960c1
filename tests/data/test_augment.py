"""Augmentation: the symmetries by NumPy, amounts recovered from the output, seeds alone decide."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from meshes import mesh_of

from brats_jax.data.augment import LATER, NONE, Augmentation, augment
from brats_jax.errors import BratsError
from brats_jax.runtime import devices

SIZE, CHANNELS = 8, 2
SWITCHES = ("flip", "quarter_turn", "intensity_scale", "intensity_shift", "gamma", "noise")
SYMMETRIES = [
    lambda x, k=k, f=f: np.rot90(x[::-1] if f else x, k) for f in (False, True) for k in range(4)
]


def batch(n, size=SIZE):
    """Different numbers everywhere: images, a target that is channel 0, labels likewise."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((n, size, size, CHANNELS)).astype(np.float32)
    labels = np.broadcast_to(np.arange(size * size).reshape(size, size), (n, size, size))
    return images, images[..., :1].copy(), labels.astype(np.int32), np.arange(n, dtype=np.uint32)


def intensities(switch, n=400):
    """(before, after) of one operation that happens to every example; every test shares it."""
    images, targets, labels, seeds = batch(n)
    out = augment(images, targets, labels, seeds, certain(switch))
    np.testing.assert_array_equal(out[1], targets)
    np.testing.assert_array_equal(out[2], labels)
    return images, np.asarray(out[0])


def only(*switches, **values):
    return replace(NONE, **{name: True for name in switches}, **values)


def certain(*switches, **values):
    return only(*switches, intensity_probability=1.0, **values)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_everything_off_is_the_identity(dtype):
    images, targets, labels, seeds = batch(5)
    images, labels = images.astype(dtype), labels.astype(np.uint8)
    out = augment(images, targets, labels, seeds, NONE)
    for got, given in zip(out, (images, targets, labels), strict=True):
        assert got.dtype == given.dtype
        np.testing.assert_array_equal(got, given)


def test_on_by_default_and_none_turns_every_switch_off():
    assert all(getattr(Augmentation(), name) for name in SWITCHES)
    assert not any(getattr(NONE, name) for name in SWITCHES)


def test_absent_targets_and_labels_stay_absent():
    images, _, labels, seeds = batch(2)
    config = only("flip", "intensity_shift")
    out = augment(images, None, labels, seeds, config)
    assert out[1] is None and out[0].shape == images.shape and out[2].shape == labels.shape
    assert augment(images, None, None, seeds, config)[1:] == (None, None)


@pytest.mark.parametrize(
    "switches, group",
    [
        (("flip",), (0, 2, 4, 6)),
        (("quarter_turn",), (0, 1, 2, 3)),
        (("flip", "quarter_turn"), range(8)),
    ],
)
def test_symmetries_are_numpys_alike_for_all_and_equally_often(switches, group):
    n = 1000
    images, targets, labels, seeds = batch(n)
    new_images, new_targets, new_labels = (
        np.asarray(x) for x in augment(images, targets, labels, seeds, only(*switches))
    )
    counts = np.zeros(8, int)
    for i in range(n):
        (found,) = (
            k for k, turn in enumerate(SYMMETRIES) if (turn(labels[i]) == new_labels[i]).all()
        )
        np.testing.assert_array_equal(SYMMETRIES[found](images[i]), new_images[i])
        np.testing.assert_array_equal(SYMMETRIES[found](targets[i]), new_targets[i])
        counts[found] += 1
    expected = n / len(group)
    assert counts.sum() == counts[list(group)].sum()
    chi_squared = ((counts[list(group)] - expected) ** 2 / expected).sum()
    assert chi_squared < 24.3  # p = 0.001 with 7 degrees of freedom


@pytest.mark.parametrize("switch", SWITCHES[2:])
def test_intensities_change_in_the_image_only(switch):
    before, after = intensities(switch)
    assert (np.abs(after - before).max(axis=(1, 2)) > 1e-5).all()  # in every channel


def test_scale_and_shift_are_uniform_in_their_ranges_per_example_and_channel():
    images, scaled = intensities("intensity_scale")
    _, shifted = intensities("intensity_shift")
    for amounts, low, high in ((scaled / images, 0.75, 1.25), (shifted - images, -0.1, 0.1)):
        drawn = np.median(amounts, axis=(1, 2))
        wide = np.abs(images) > 0.1  # a small number's ratio is all rounding
        np.testing.assert_allclose(
            np.where(wide, amounts, drawn[:, None, None]), drawn[:, None, None] + 0 * amounts,
            atol=1e-5,
        )  # fmt: skip
        unit = (drawn - low) / (high - low)
        assert unit.min() > -1e-4 and unit.max() < 1 + 1e-4
        assert np.abs(np.quantile(unit, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.08
        assert abs(np.corrcoef(unit.T)[0, 1]) < 0.2


def test_gamma_keeps_the_extremes_and_is_a_power_between():
    images, out = (x[:100] for x in intensities("gamma"))
    low, high = (f(images, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    np.testing.assert_allclose(out.min((1, 2)), low[:, 0, 0], atol=1e-5)
    np.testing.assert_allclose(out.max((1, 2)), high[:, 0, 0], atol=1e-5)
    before, after = (images - low) / (high - low), (out - low) / (high - low)
    at = np.argsort(np.abs(before - 0.5).reshape(100, -1, CHANNELS), axis=1)[:, :1]  # a mid-grey
    power = np.log(np.take_along_axis(after.reshape(100, -1, CHANNELS), at, 1)) / np.log(
        np.take_along_axis(before.reshape(100, -1, CHANNELS), at, 1)
    )
    np.testing.assert_allclose(after, before ** power[:, :, None], atol=1e-4)
    assert 0.69 < power.min() < 0.75 and 1.45 < power.max() < 1.51
    assert len(np.unique(power)) == power.size  # its own in every channel


def test_gamma_leaves_a_constant_patch_alone():
    images = np.full((3, SIZE, SIZE, 1), -0.4, np.float32)
    out = augment(images, None, None, np.arange(3, dtype=np.uint32), certain("gamma"))[0]
    np.testing.assert_allclose(out, images)


def test_noise_is_gaussian_of_the_drawn_deviation():
    images, _, _, seeds = batch(200, size=32)
    config = certain("noise", noise_range=(0.05, 0.1))
    noise = np.asarray(augment(images, None, None, seeds, config)[0]) - images
    deviation = noise.std(axis=(1, 2))
    assert 0.045 < deviation.min() < 0.06 and 0.09 < deviation.max() < 0.11
    unit = noise / deviation[:, None, None]
    for power, moment in ((1, 0), (3, 0), (4, 3)):
        assert abs((unit**power).mean() - moment) < 0.03
    across = np.corrcoef(unit[..., 0].ravel(), unit[..., 1].ravel())[0, 1]
    down = np.corrcoef(unit[:, 1:].ravel(), unit[:, :-1].ravel())[0, 1]
    assert max(abs(across), abs(down)) < 0.01


def test_intensity_operations_happen_as_often_as_asked_and_independently():
    images, targets, labels, seeds = batch(1000)
    config = only("gamma", "intensity_scale", "intensity_shift", intensity_probability=0.25)
    out = np.asarray(augment(images, targets, labels, seeds, config)[0], np.float64)
    # Gamma keeps the extremes, so the extent tells the scale, and then the minimum the shift.
    (low, high), (new_low, new_high) = ((x.min((1, 2)), x.max((1, 2))) for x in (images, out))
    scale = (new_high - new_low) / (high - low)
    shift = new_low - low * scale
    unit, new_unit = (
        (x - a[:, None, None]) / (b - a)[:, None, None]
        for x, a, b in ((images, low, high), (out, new_low, new_high))
    )
    happened = np.array(
        [
            (np.abs(x) > 1e-5).any(axis=1)
            for x in (scale - 1, shift, np.abs(new_unit - unit).max(axis=(1, 2)))
        ]
    )
    assert (np.abs(happened.mean(axis=1) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 1000)).all()
    assert np.abs(np.corrcoef(happened) - np.eye(3)).max() < 0.13


def test_noise_happens_as_often_as_asked():
    images, _, _, seeds = batch(1000, size=4)
    out = augment(images, None, None, seeds, only("noise", intensity_probability=0.25))[0]
    touched = (np.asarray(out) != images).any(axis=(1, 2, 3)).mean()
    assert abs(touched - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 1000)


def test_intensity_operations_that_never_happen_change_nothing():
    images, _, _, seeds = batch(20)
    config = only(*SWITCHES[2:], intensity_probability=0.0)
    np.testing.assert_array_equal(augment(images, None, None, seeds, config)[0], images)


def test_an_example_depends_on_its_seed_alone():
    images, targets, labels, seeds = batch(6)
    config = replace(Augmentation(), intensity_probability=1.0)
    whole = augment(images, targets, labels, seeds, config)
    order = np.array([4, 0, 5])
    some = augment(images[order], targets[order], labels[order], seeds[order], config)
    for got, all_of in zip(some, whole, strict=True):
        np.testing.assert_array_equal(got, np.asarray(all_of)[order])
    again = augment(images, targets, labels, seeds + 6, config)
    assert (np.asarray(again[0]) != np.asarray(whole[0])).any(axis=(1, 2, 3)).all()
    large = augment(images, targets, labels, np.full(6, 2**32 - 1, np.uint32), config)[0]
    assert np.isfinite(large).all()


def test_the_users_default_generator_changes_nothing():
    images, targets, labels, seeds = batch(3)
    config = certain("flip", "quarter_turn", "intensity_shift")
    expected = augment(images, targets, labels, seeds, config)
    with jax.default_prng_impl("rbg"):
        got = augment(images, targets, labels, seeds, config)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_switching_one_off_leaves_the_others_as_they_were():
    images, _, labels, seeds = batch(8)
    turned = augment(images, None, labels, seeds, certain("flip", "quarter_turn", "gamma"))[2]
    less = augment(images, None, labels, seeds, only("flip", "quarter_turn"))[2]
    np.testing.assert_array_equal(less, turned)
    images, _, _, seeds = (x[:8] for x in batch(400))
    both = augment(images, None, None, seeds, certain("intensity_scale", "intensity_shift"))[0]
    scale, shift = (intensities(name)[1][:8] for name in ("intensity_scale", "intensity_shift"))
    np.testing.assert_allclose(both, scale + (shift - images), atol=1e-5)


def test_labels_keep_their_values_and_half_precision_stays():
    images, targets, _, seeds = batch(16)
    labels = np.random.default_rng(1).integers(0, 4, (16, SIZE, SIZE)).astype(np.uint8)
    config = replace(Augmentation(), noise=False)
    out = augment(images.astype(np.float16), targets, labels, seeds, config)
    assert (out[0].dtype, out[2].dtype) == (np.float16, np.uint8)
    for got, given in zip(np.asarray(out[2]), labels, strict=True):
        np.testing.assert_array_equal(np.bincount(got.ravel()), np.bincount(given.ravel()))


def test_oblong_patches_flip_and_are_not_turned():
    images = np.random.default_rng(0).standard_normal((2, 4, 6, 1)).astype(np.float32)
    seeds = np.arange(2, dtype=np.uint32)
    assert augment(images, None, None, seeds, only("flip"))[0].shape == images.shape
    with pytest.raises(BratsError, match="square patches, got 4 x 6"):
        augment(images, None, None, seeds, only("quarter_turn"))


def test_bad_input_is_refused():
    images, targets, labels, seeds = batch(3)
    for wrong in (
        (images, targets[:2], labels, seeds),
        (images, targets, labels[:, 1:], seeds),
        (images, targets, labels, seeds[:2]),
    ):
        with pytest.raises(BratsError, match="must agree"):
            augment(*wrong, NONE)
    assert Augmentation(gamma_range=[0.8, 1.2]) == Augmentation(gamma_range=(0.8, 1.2))
    for values, message in (
        ({"scale_range": (1.2, 0.8)}, "scale_range"),
        ({"shift_range": (0.0, 0.1, 0.2)}, "shift_range"),
        ({"shift_range": (0.0, float("nan"))}, "shift_range"),
        ({"gamma_range": (0.0, 1.0)}, "must be positive"),
        ({"noise_range": (-0.1, 0.1)}, "not negative"),
        ({"intensity_probability": 1.5}, "0..1"),
    ):
        with pytest.raises(BratsError, match=message):
            Augmentation(**values)


STRONGER = replace(
    NONE,
    **dict.fromkeys(LATER, True),
    spatial_probability=1.0,
    blur_probability=1.0,
    low_resolution_probability=1.0,
    intensity_probability=1.0,
)


def moved(config, n=40, size=24):
    """Images that are row and column, labels of blocks, and their augmentation; background -9."""
    row, column = (np.broadcast_to(a, (n, size, size)) for a in np.indices((size, size)))
    images = np.stack([row, column], axis=-1).astype(np.float32)
    labels = (1 + (row // 6 + column // 6) % 3).astype(np.uint8)
    seeds, outside = np.arange(n, dtype=np.uint32), np.full((n, 2), -9, np.float32)
    out = augment(images, images[..., :1], labels, seeds, config, outside, outside[:, :1] + 1)
    return labels, *map(np.asarray, out)


def test_rotation_and_scaling_move_image_target_and_labels_together():
    config = replace(
        NONE, rotation=True, scaling=True, flip=True, quarter_turn=True, spatial_probability=0.5
    )
    labels, images, targets, new = moved(config)
    outside = images[..., 0] == -9
    assert 0.01 < outside.mean() < 0.3
    np.testing.assert_array_equal(targets[..., 0], np.where(outside, -8, images[..., 0]))
    assert (new[outside] == 0).all() and new.dtype == labels.dtype
    # Rows and columns are linear: their values are the positions that the pixels are from.
    row, column = (np.floor(images[..., k] + 0.5).clip(0, 23).astype(int) for k in range(2))
    expected = labels[np.arange(len(labels))[:, None, None], row, column]
    away = np.abs(images - np.floor(images) - 0.5).min(axis=-1) > 1e-3  # of a tie
    np.testing.assert_array_equal(new[~outside & away], expected[~outside & away])


def test_angles_and_factors_are_uniform_in_their_ranges_and_as_frequent_as_asked():
    config = replace(NONE, rotation=True, scaling=True)
    _, images, _, _ = moved(config, n=2000, size=8)
    down, across = (images[:, 4, 4] - images[:, 3, 4]), (images[:, 4, 4] - images[:, 4, 3])
    angle = np.rad2deg(np.arctan2(down[:, 1], down[:, 0]))
    factor = 1 / np.hypot(down[:, 0], down[:, 1])
    np.testing.assert_allclose(across[:, 0], -down[:, 1], atol=1e-4)
    for found, still, low, high in ((angle, 0, -30, 30), (factor, 1, 0.7, 1.4)):
        happened = np.abs(found - still) > 1e-3
        assert abs(happened.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 2000)
        unit = (found[happened] - low) / (high - low)
        assert unit.min() > -1e-3 and unit.max() < 1 + 1e-3
        assert np.abs(np.quantile(unit, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.12


def test_operations_that_never_happen_keep_the_bits_of_those_that_do():
    images, targets, labels, seeds = batch(8)
    plain = Augmentation(intensity_probability=0.0)
    never = replace(
        plain, **dict.fromkeys(LATER, True), spatial_probability=0.0, blur_probability=0.0,
        low_resolution_probability=0.0, curve_probability=0.0, bias_probability=0.0,
        lesion_probability=0.0, thick_probability=0.0,
    )  # fmt: skip
    background = np.zeros((8, CHANNELS), np.float32)
    expected = augment(images, targets, labels, seeds, plain)
    got = augment(images, targets, labels, seeds, never, background, background[:, :1])
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("switch", [one for one in LATER[2:] if one != "lesion_contrast"])
def test_appearance_changes_the_image_alone_and_not_every_modality(switch):
    images, targets, labels, seeds = batch(100)
    config = replace(STRONGER, **{name: name == switch for name in LATER})
    config = replace(config, intensity_probability=0.5, bias_probability=0.5)
    config = replace(config, thick_probability=1.0)
    out = augment(images, targets, labels, seeds, config, np.zeros((100, CHANNELS), np.float32))
    np.testing.assert_array_equal(out[1], targets)
    np.testing.assert_array_equal(out[2], labels)
    changed = (np.abs(np.asarray(out[0]) - images) > 1e-6).any(axis=(1, 2))
    assert 0.3 < changed.mean() < 0.9
    assert (changed[:, 0] != changed[:, 1]).mean() > 0.2  # by modality


def test_the_contrast_of_a_lesion_is_within_the_ranges_of_its_parts():
    """Brain of 0, each part of 1 beside it: a factor is what a pixel amid the part is after."""
    images, labels = np.zeros((500, 12, 36, 2), np.float32), np.zeros((500, 12, 36), np.uint8)
    for label in (1, 2, 3):
        labels[:, :, 12 * label - 10 : 12 * label - 1] = label
    images[labels > 0] = 1
    seeds, air = np.arange(500, dtype=np.uint32), np.full((500, 2), -5, np.float32)
    out = augment(images, None, labels, seeds, replace(NONE, lesion_contrast=True), air)
    np.testing.assert_array_equal(out[2], labels)
    factors = np.asarray(out[0])[:, 6, [6, 18, 30]]
    happened = (factors != 1).any(axis=(1, 2))
    assert abs(happened.mean() - 0.5) < 0.1
    for part, (low, high) in enumerate(((-0.5, 2.0), (0.3, 1.3), (0.3, 1.3))):
        unit = (factors[happened, part] - low) / (high - low)
        assert unit.min() > -0.01 and unit.max() < 1.01
        assert np.abs(np.quantile(unit, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.1
        assert abs(np.corrcoef(unit.T)[0, 1]) < 0.2  # by modality


def test_stronger_operations_depend_on_the_seed_alone_on_any_number_of_devices():
    images, targets, labels, seeds = batch(6)
    background = np.random.default_rng(3).standard_normal((6, CHANNELS)).astype(np.float32)
    given = (images, targets, labels, seeds, background, background[:, :1])

    def of(images, targets, labels, seeds, *backgrounds):
        return augment(images, targets, labels, seeds, STRONGER, *backgrounds)

    whole = of(*given)
    order = np.array([4, 0])
    two = {str(k): array[order] for k, array in enumerate(given)}
    for some in (of(*two.values()), of(*devices.put_batch(two, mesh_of(2)).values())):
        for got, all_of in zip(some, whole, strict=True):
            np.testing.assert_allclose(got, np.asarray(all_of)[order], rtol=1e-6, atol=1e-6)
    assert np.isfinite(whole[0]).all()
    assert (np.asarray(whole[0]) != images).any(axis=(1, 2, 3)).all()


def test_interpolation_without_the_background_and_wrong_ranges_are_refused():
    images, targets, labels, seeds = batch(2)
    with pytest.raises(BratsError, match="need the background of their slices"):
        augment(images, targets, labels, seeds, replace(NONE, rotation=True))
    with pytest.raises(
        BratsError, match="bias field of patches needs the background of their slices"
    ):
        augment(images, targets, labels, seeds, replace(NONE, bias_field=True))
    with pytest.raises(BratsError, match="lesion_contrast needs labels"):
        outside = np.zeros((2, CHANNELS), np.float32)
        augment(images, targets, None, seeds, replace(NONE, lesion_contrast=True), outside)
    for values, message in (
        ({"rotation_range": (30, -30)}, "rotation_range"),
        ({"scaling_range": (0.0, 1.0)}, "scaling_range must be positive"),
        ({"low_resolution_range": (0.5, 1.5)}, "low_resolution_range"),
        ({"blur_probability": -0.1}, "blur_probability"),
        ({"thick_range": (0.5, 2)}, "thick_range .* must be at least 1 pixel"),
    ):
        with pytest.raises(BratsError, match=message):
            Augmentation(**values)


def test_a_modality_changes_alike_in_all_slices():
    """Of three equal slices: all that is done to them is equal, but for the noise."""
    images, _, labels, seeds = batch(40)
    three = np.concatenate([images] * 3, axis=-1)
    config = certain(*(name for name in (*SWITCHES, *LATER) if name != "noise"))
    outside = np.float32([[-1, -2]]).repeat(40, axis=0)
    alone = augment(images, None, labels, seeds, config, outside)[0]
    together = augment(three, None, labels, seeds, config, np.tile(outside, 3), slices=3)[0]
    np.testing.assert_allclose(together, np.concatenate([alone] * 3, axis=-1), atol=1e-5)
    noise = np.asarray(augment(three, None, None, seeds, certain("noise"), slices=3)[0]) - three
    first, second, third = np.split(noise, 3, axis=-1)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1
    assert (first != second).mean() > 0.99 and (second != third).mean() > 0.99
    assert abs(first.std() / second.std() - 1) < 0.1
    # The darkest and the brightest pixel are those of all slices: one curve for the modality.
    brighter = np.concatenate([images, images + 1, images - 1], axis=-1)
    curved = np.asarray(augment(brighter, None, None, seeds, certain("gamma"), slices=3)[0])
    pixels = np.stack(np.split(brighter, 3, axis=-1)), np.stack(np.split(curved, 3, axis=-1))
    order = np.argsort(pixels[0][:, 0, ..., 0].ravel())
    assert (np.diff(pixels[1][:, 0, ..., 0].ravel()[order]) > -1e-5).all()
