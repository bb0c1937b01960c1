"""Overlap: counts and Dice that can be checked by hand, MONAI's values, the conventions."""

import math
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from brats_jax.errors import BratsError
from brats_jax.metrics import overlap
from brats_jax.runtime import forms

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "overlap_and_surface.npz")
BRATS = np.load(Path(__file__).parents[1] / "golden" / "lesions.npz")

#  prediction   target      class 0: tp 1 fp 0 fn 1; 1: tp 1 fp 1 fn 1; 2: tp 1 fp 1 fn 0
#  0 1 1        0 1 0       class 3: in neither
#  2 2 9        1 2 9       the 9s belong to no class
PREDICTION = np.array([[[0, 1, 1], [2, 2, 9]]])
TARGET = np.array([[[0, 1, 0], [1, 2, 9]]])
COUNTS = [[[1, 0, 1], [1, 1, 1], [1, 1, 0], [0, 0, 0]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_counts_by_hand(dtype):
    counts = overlap.confusion_counts(PREDICTION.astype(dtype), TARGET.astype(dtype), 4)
    assert counts.dtype == np.int32
    np.testing.assert_array_equal(counts, COUNTS)


def test_negative_labels_belong_to_no_class():
    ignore = np.full((1, 2, 2), -1)
    counts = overlap.confusion_counts(ignore, np.ones((1, 2, 2), int), 2)
    np.testing.assert_array_equal(counts, [[[0, 0, 0], [0, 0, 4]]])


def by_masks(prediction, target, regions):
    """The definition: sums of masks, in NumPy."""
    counts = []
    for a, b in zip(prediction, target, strict=True):
        for region in regions:
            p, t = np.isin(a, region), np.isin(b, region)
            counts.append([(p & t).sum(), (p & ~t).sum(), (~p & t).sum()])
    return np.reshape(counts, (len(prediction), -1, 3))


def test_counts_are_those_of_the_masks():
    p, t = np.random.default_rng(0).integers(-1, 6, (2, 5, 17, 23))
    expected = by_masks(p, t, ((0,), (1,), (2,), (3,)))
    np.testing.assert_array_equal(overlap.confusion_counts(p, t, 4), expected)


def test_the_plain_form_can_be_selected(monkeypatch):
    p, t = np.random.default_rng(0).integers(-1, 6, (2, 5, 17, 23))
    program = jax.jit(lambda p, t: overlap.confusion_counts(p, t, 4))
    assert "scatter" in program.lower(p, t).as_text()  # of the histogram, for CPUs
    monkeypatch.setenv(forms.VARIABLE, "counts")
    plain = jax.jit(lambda p, t: overlap.confusion_counts(p, t, 4))
    assert "scatter" not in plain.lower(p, t).as_text()
    np.testing.assert_array_equal(plain(p, t), program(p, t))


REGIONS = ((1, 2, 3), (1, 3), (3,))


def test_region_counts_by_hand():
    # Of the maps above: WT is 1 1 / 2 2 against 1 / 1 2, TC 1 1 against 1 / 1, ET nothing.
    counts = overlap.region_counts(PREDICTION, TARGET, REGIONS)
    assert counts.dtype == np.int32
    np.testing.assert_array_equal(counts, [[[3, 1, 0], [1, 1, 1], [0, 0, 0]]])


@pytest.mark.parametrize("form", [overlap.counts_by_histogram, overlap.counts_by_sums])
@pytest.mark.parametrize("shape", [(5, 17, 23), (3, 9, 8, 7)])
@pytest.mark.parametrize("regions", [REGIONS, ((0,), (2, 0), (5, 5))])
def test_region_counts_are_those_of_the_masks(form, shape, regions):
    p, t = np.random.default_rng(1).integers(-1, 6, (2, *shape))
    np.testing.assert_array_equal(form(p, t, regions), by_masks(p, t, regions))
    np.testing.assert_array_equal(overlap.region_counts(p, t, regions), by_masks(p, t, regions))


def test_counts_of_slices_add_up_to_the_volumes():
    p, t = np.random.default_rng(2).integers(0, 4, (2, 1, 9, 8, 7))
    slices = overlap.region_counts(*(np.moveaxis(x[0], -1, 0) for x in (p, t)), REGIONS)
    np.testing.assert_array_equal(slices.sum(axis=0), overlap.region_counts(p, t, REGIONS)[0])


def test_sensitivity_and_specificity_by_hand():
    # Of six pixels; class 2 has tp 1, fp 1, fn 0: five are no part of it, one of them hit.
    counts = np.array(COUNTS)
    np.testing.assert_allclose(overlap.sensitivity(counts), [[1 / 2, 1 / 2, 1, math.nan]])
    np.testing.assert_allclose(overlap.sensitivity(counts, 1.0), [[1 / 2, 1 / 2, 1, 1]])
    np.testing.assert_allclose(overlap.specificity(counts, 6), [[1, 3 / 4, 4 / 5, 1]])
    full = np.array([[6, 0, 0], [0, 0, 6]])
    np.testing.assert_array_equal(overlap.specificity(full, 6), [math.nan, math.nan])
    np.testing.assert_array_equal(overlap.specificity(full, 6, 1.0), [1, 1])
    np.testing.assert_array_equal(overlap.specificity(full, np.array([7, 8])), [1, 1])
    # A volume of 240 x 240 x 155 and 5 false voxels: float32 has digits for it near 1 only.
    value = overlap.specificity(np.array([0, 5, 0]), 240 * 240 * 155)
    assert value == np.float32(1 - 5 / (240 * 240 * 155))


def test_the_challenges_conventions_score_two_empty_masks_1():
    counts = np.array([[[0, 0, 0]], [[0, 5, 0]], [[0, 0, 5]], [[1, 1, 1]]])
    for convention in ("brats2020", "brats2023"):
        assert overlap.empty_value(convention) == 1
        np.testing.assert_allclose(overlap.mean_dice(counts, convention).dice, [1.5 / 4])


def test_dice_by_hand():
    value = partial(overlap.dice, np.array(COUNTS))
    np.testing.assert_allclose(value(0.0), [[2 / 3, 1 / 2, 2 / 3, 0]], rtol=1e-6)
    np.testing.assert_allclose(value(1.0), [[2 / 3, 1 / 2, 2 / 3, 1]], rtol=1e-6)
    np.testing.assert_allclose(value(), [[2 / 3, 1 / 2, 2 / 3, math.nan]], rtol=1e-6)


def test_one_empty_mask_is_zero_under_every_convention():
    counts = np.array([[[0, 5, 0]], [[0, 0, 5]]])
    for convention in overlap.CONVENTIONS:
        np.testing.assert_array_equal(overlap.mean_dice(counts, convention).dice, [0])


def test_dice_matches_monai():
    counts = overlap.confusion_counts(GOLDEN["prediction"], GOLDEN["target"], 4)
    # Both of MONAI's rules look at the target alone; no map here predicts an absent class.
    np.testing.assert_allclose(overlap.dice(counts), GOLDEN["monai_dice_nan"], atol=1e-6)
    np.testing.assert_allclose(overlap.dice(counts, 1.0), GOLDEN["monai_dice_one"], atol=1e-6)
    assert np.isnan(GOLDEN["monai_dice_nan"]).sum() == 1  # the case is in the data


def test_volumes_score_as_in_the_challenge():
    counts = overlap.region_counts(BRATS["prediction"], BRATS["target"], REGIONS)
    expected = {
        name: BRATS["values"][0][..., list(BRATS["columns"]).index(name)]
        for name in ("Legacy_Dice", "Sensitivity", "Specificity")
    }
    dice = overlap.dice(counts, overlap.empty_value("brats2023"))
    np.testing.assert_allclose(dice, expected["Legacy_Dice"], rtol=1e-6)
    # The script: 1 where both are empty, 0 where the target alone is.
    empty = np.where(counts[..., 1] == 0, 1.0, 0.0)
    found = overlap.sensitivity(counts, empty)
    np.testing.assert_allclose(found, expected["Sensitivity"], rtol=1e-6)
    left_alone = overlap.specificity(counts, math.prod(BRATS["target"].shape[1:]))
    np.testing.assert_allclose(left_alone, expected["Specificity"], rtol=1e-6)
    assert {0, 1} <= set(np.asarray(dice).ravel().tolist())


def test_conventions_differ_only_where_a_class_is_absent():
    # Four slices of one class: perfect, half right, missed, absent. Another class: always absent.
    counts = np.array(
        [[[4, 0, 0], [0] * 3], [[1, 1, 1], [0] * 3], [[0, 0, 7], [0] * 3], [[0] * 3, [0] * 3]]
    )
    expected = {
        "paper": ([1.5 / 4, 0], [4, 4]),
        "present_only": ([1.5 / 3, math.nan], [3, 0]),
        "both_empty_1": ([2.5 / 4, 1], [4, 4]),
    }
    assert set(expected) == set(overlap.CONVENTIONS) == set(overlap.CONVENTION_NOTES)
    for convention, (dice, slices) in expected.items():
        mean = overlap.mean_dice(counts, convention)
        np.testing.assert_allclose(mean.dice, dice)
        np.testing.assert_array_equal(mean.slices, slices)


def test_the_papers_convention_cannot_exceed_the_share_of_slices_with_the_class():
    counts = np.zeros((100, 1, 3), np.int32)
    counts[:27, 0, 0] = 50  # a perfect model, the class in 27 slices of 100
    assert overlap.mean_dice(counts, "paper").dice[0] == pytest.approx(0.27)
    assert overlap.mean_dice(counts, "present_only").dice[0] == 1


def test_no_slices_give_nan():
    mean = overlap.mean_dice(np.zeros((0, 4, 3), np.int32), "paper")
    assert np.isnan(mean.dice).all() and (mean.slices == 0).all()


def test_invalid_names_shapes_and_regions_are_refused():
    with pytest.raises(BratsError, match="paper, present_only, both_empty_1"):
        overlap.mean_dice(np.array(COUNTS), "papper")
    with pytest.raises(BratsError, match=r"\(1, 2, 3\) and target \(2, 2, 3\)"):
        overlap.confusion_counts(PREDICTION, np.concatenate([TARGET] * 2), 4)
    for regions in ((), ((1,), ()), ((-1,),), ((256,),)):
        with pytest.raises(BratsError, match=r"at least one label in 0\.\.255"):
            overlap.region_counts(PREDICTION, TARGET, regions)
