"""Lesion-wise scores: scenes by hand, and the values of the challenge's own script."""

import os
from pathlib import Path

import numpy as np
import pytest
from skimage import measure

from brats_jax.errors import BratsError
from brats_jax.metrics import lesions

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "lesions.npz")
REGIONS = ((1, 2, 3), (1, 3), (3,))
SHAPE = (24, 20, 40)


def boxes(*corners, size=4):
    """Cubes of 64 voxels, or of another size, at the corners given: bool[24, 20, 40]."""
    mask = np.zeros(SHAPE, bool)
    for corner in corners:
        mask[tuple(slice(c, c + size) for c in corner)] = True
    return mask


def summary(scores):
    return scores.tp, scores.fn, scores.fp


def test_a_perfect_prediction_finds_every_lesion():
    mask = boxes((2, 2, 2), (2, 2, 30))
    scores = lesions.lesion_scores(mask, mask)
    assert summary(scores) == (2, 0, 0) and scores.dice == 1 and scores.hd95_mm == 0
    assert [lesion.volume_mm3 for lesion in scores.lesions] == [64, 64]


def test_one_lesion_found_one_missed_and_one_false_positive():
    truth = boxes((2, 2, 2), (2, 2, 30))
    prediction = boxes((2, 2, 3), (16, 12, 16))  # one voxel off: 48 of 64 shared, Dice 0.75
    scores = lesions.lesion_scores(prediction, truth)
    assert summary(scores) == (1, 1, 1)
    assert scores.dice == pytest.approx((0.75 + 0 + 0) / 3)
    assert scores.hd95_mm == pytest.approx((1 + 374 + 374) / 3)
    assert [lesion.components for lesion in scores.lesions] == [1, 0]
    assert [lesion.hd95_mm for lesion in scores.lesions] == [1, 374]


@pytest.mark.parametrize(("gap", "count"), [(5, 1), (6, 1), (7, 2)])
def test_lesions_that_dilate_into_each_other_are_one(gap, count):
    # Each grows by 3 voxels, and dilations that touch are joined.
    truth = boxes((8, 8, 2), (8, 8, 2 + 4 + gap))
    scores = lesions.lesion_scores(boxes(), truth)
    assert len(scores.lesions) == count and summary(scores) == (0, count, 0)
    assert sum(lesion.volume_mm3 for lesion in scores.lesions) == 128  # the mask itself


def test_a_component_near_a_lesion_is_part_of_it_and_counts_whole():
    truth = boxes((8, 8, 2))
    near, far = (boxes((8, 8, 2), (8, 8, 2 + 4 + gap)) for gap in (2, 3))
    assert lesions.lesion_scores(near, truth).dice == pytest.approx(2 * 64 / (64 + 128))
    assert lesions.lesion_scores(far, truth, dilation=4).lesions[0].components == 2
    scores = lesions.lesion_scores(far, truth)  # touches the dilation's neighbours only
    assert summary(scores) == (1, 0, 1) and scores.dice == pytest.approx(1 / 2)


def test_a_component_over_two_lesions_counts_in_full_for_both():
    truth = boxes((8, 8, 2), (8, 8, 26))
    bar = np.zeros(SHAPE, bool)
    bar[8:12, 8:12, 2:30] = True  # 448 voxels
    scores = lesions.lesion_scores(bar, truth)
    assert summary(scores) == (2, 0, 0)
    assert scores.dice == pytest.approx(2 * 64 / (64 + 448))


def test_small_lesions_do_not_count_and_predictions_on_them_are_no_false_positives():
    small, big = boxes((2, 2, 2), size=3), boxes((14, 10, 30))
    scores = lesions.lesion_scores(small | big, small | big)
    assert summary(scores) == (1, 0, 0) and scores.dice == 1
    assert [(lesion.volume_mm3, lesion.counted) for lesion in scores.lesions] == [
        (27, False),
        (64, True),
    ]
    missed = lesions.lesion_scores(big, small | big)
    assert summary(missed) == (1, 0, 0) and missed.dice == 1
    # A prediction that small is a false positive all the same.
    assert summary(lesions.lesion_scores(small | big, big)) == (1, 0, 1)
    # 27 voxels of 2 mm^3 are 54 mm^3; exactly 50 mm^3 is still too small.
    assert lesions.lesion_scores(small, small, (1.0, 1.0, 2.0)).tp == 1
    assert lesions.lesion_scores(small, small, (1.0, 1.0, 2.0), smallest_mm3=54.0).tp == 0


def test_components_touch_at_corners():
    corner = boxes((8, 8, 8), (12, 12, 12))
    assert lesions.lesion_scores(corner, boxes()).fp == 1
    # The dilation is not the whole cube of 26: it reaches (3, 3, 0) but not (3, 3, 3).
    dot = np.zeros(SHAPE, bool)
    dot[14, 14, 14] = True
    assert lesions.lesion_scores(dot, boxes((8, 8, 8))).fp == 1
    dot[14, 14, 14], dot[14, 14, 11] = False, True
    assert lesions.lesion_scores(dot, boxes((8, 8, 8))).fp == 0


def test_two_empty_masks_score_1_and_one_empty_mask_0():
    nothing, some = boxes(), boxes((2, 2, 2))
    scores = lesions.lesion_scores(nothing, nothing)
    assert (scores.dice, scores.hd95_mm, *summary(scores)) == (1, 0, 0, 0, 0)
    for prediction, truth, counts in ((some, nothing, (0, 0, 1)), (nothing, some, (0, 1, 0))):
        scores = lesions.lesion_scores(prediction, truth)
        assert (scores.dice, scores.hd95_mm) == (0, 374) and summary(scores) == counts
    assert lesions.lesion_scores(some, nothing, penalty_mm=100.0).hd95_mm == 100


def assert_like_the_script(scores, expected):
    got = [(s.dice, s.hd95_mm, s.tp, s.fn, s.fp) for s in scores]
    np.testing.assert_allclose(got, expected[:, :5], rtol=1e-6, atol=1e-9)


def test_scores_are_the_challenges():
    for spacing, values in zip(GOLDEN["spacings_mm"], GOLDEN["values"], strict=True):
        for p, t, expected in zip(GOLDEN["prediction"], GOLDEN["target"], values, strict=True):
            assert_like_the_script(
                lesions.region_lesion_scores(p, t, REGIONS, tuple(spacing)), expected
            )
    counts = GOLDEN["values"][..., 2:5].reshape(-1, 3)
    assert (counts.max(axis=0) >= 2).all() and (counts == 0).any(axis=0).all()


def test_lesions_are_those_of_another_labelling():
    # The definition once more, by distance: two voxels of the target belong to one lesion if
    # their dilations touch. Here by skimage, whole volumes, no crops.
    offsets = np.argwhere(np.ones((3, 3, 3))) - 1
    offsets = offsets[np.abs(offsets).sum(axis=1) <= 2]
    for p, t in zip(GOLDEN["prediction"] > 0, GOLDEN["target"] > 0, strict=True):
        grown = np.pad(t, 4)
        for _ in range(3):
            grown = np.any([np.roll(grown, o, (0, 1, 2)) for o in offsets], axis=0)
        groups = measure.label(grown, connectivity=3)[4:-4, 4:-4, 4:-4]
        components = measure.label(p, connectivity=3)
        scores = lesions.lesion_scores(p, t)
        volumes = sorted(np.unique(groups[t], return_counts=True)[1])
        assert sorted(lesion.volume_mm3 for lesion in scores.lesions) == volumes
        touching = [(groups[components == c] > 0).any() for c in range(1, components.max() + 1)]
        assert scores.fp == len(touching) - sum(touching)


def test_invalid_masks_and_spacings_are_refused():
    mask = boxes((2, 2, 2))
    for target in (mask[:-1], mask[0]):
        with pytest.raises(BratsError, match="volumes"):
            lesions.lesion_scores(mask, target)
    with pytest.raises(BratsError, match="volumes"):
        lesions.lesion_scores(mask[0], mask[0])
    for spacing in ((1.0, 1.0), (1.0, 0.0, 1.0)):
        with pytest.raises(BratsError, match="3 positive lengths"):
            lesions.lesion_scores(mask, mask, spacing)
    with pytest.raises(BratsError, match="0 or more"):
        lesions.lesion_scores(mask, mask, dilation=-1)


@pytest.mark.real
@pytest.mark.skipif("BRATS_REAL_DATA" not in os.environ, reason="no real cases")
def test_real_cases_score_as_in_the_challenge(real_cases):
    seen = []
    for case, prediction, target in real_cases.pairs(os.environ["BRATS_REAL_DATA"]):
        if case in GOLDEN["cases"]:
            scores = lesions.region_lesion_scores(prediction, target, REGIONS)
            assert_like_the_script(scores, GOLDEN[f"values_{case}"])
            seen.append(case)
    assert seen == real_cases.stored(os.environ["BRATS_REAL_DATA"], GOLDEN)
