"""The sentence of a comparison, word by word."""

import math

import numpy as np
import pytest

from brats_jax.reporting.comparison_sentences import comparison_sentence
from brats_jax.reporting.statistics import PairedDifference, paired_difference

FOUND = PairedDifference(
    n=55,
    left_out=2,
    larger=40,
    smaller=15,
    mean_a=0.324,
    mean_b=0.31,
    mean_difference=0.014,
    low=0.006,
    high=0.0221,
    confidence=0.95,
    method="BCa",
    p_permutation=0.0004,
    smallest_p=0.0002,
    p_wilcoxon=0.001,
    dz=0.456,
    rank_biserial=0.5,
)
NOT_FOUND = FOUND._replace(low=-0.004, high=0.032, p_permutation=0.13, left_out=0)


def test_a_difference_is_stated_with_its_numbers():
    sentence = comparison_sentence(FOUND, quantity="Dice of ED", better="larger")
    assert sentence == (
        "Dice of ED: SSL is better than the baseline, 0.324 against 0.310 (mean difference "
        "+0.014, 95 % interval +0.006 to +0.022; n = 55 patients, 2 "
        "left out without both values; p < 0.001, sign-flip test)."
    )


def test_smaller_values_may_be_better():
    sentence = comparison_sentence(
        FOUND, quantity="ASD of ED", better="smaller", unit="mm", decimals=2, a="A", b="B"
    )
    assert sentence.startswith(
        "ASD of ED: A is worse than B, 0.32 mm against 0.31 mm (mean difference +0.01 mm, 95 % "
    )
    lower = FOUND._replace(mean_difference=-0.014, low=-0.022, high=-0.006)
    assert "A is better than B" in comparison_sentence(
        lower, quantity="ASD", better="smaller", a="A", b="B"
    )


def test_a_large_p_is_never_worded_as_equality():
    sentence = comparison_sentence(
        NOT_FOUND, quantity="Dice of ED", better="larger", p_adjusted=0.39, comparisons=3
    )
    assert sentence == (
        "Dice of ED: no difference was found between SSL and the baseline, 0.324 against 0.310 "
        "(mean difference +0.014, 95 % interval -0.004 to +0.032; n = 55 "
        "patients; p = 0.39, sign-flip test, Holm's correction over 3 comparisons); the data are "
        "compatible with anything from SSL 0.004 worse to 0.032 better."
    )
    for word in ("equal", "same", "equivalent", "no effect"):
        assert word not in sentence
    none = comparison_sentence(NOT_FOUND._replace(high=0.0), quantity="Dice", better="larger")
    assert none.endswith("anything from SSL 0.004 worse to no different.")
    smaller = comparison_sentence(NOT_FOUND, quantity="ASD", better="smaller", unit="mm")
    assert smaller.endswith("from SSL 0.032 mm worse to 0.004 mm better.")


def test_the_corrected_p_decides():
    sentence = comparison_sentence(
        FOUND, quantity="Dice", better="larger", p_adjusted=0.08, comparisons=200
    )
    assert "no difference was found" in sentence
    # Not "compatible with SSL 0.006 better to 0.022 better": that reads as a difference.
    assert "compatible with" not in sentence
    assert (
        "The interval, which is not corrected for the number of comparisons, excludes zero"
        in sentence
    )


def test_a_difference_whose_interval_includes_zero_is_weak_evidence():
    sentence = comparison_sentence(NOT_FOUND, quantity="Dice", better="larger", alpha=0.2)
    assert "SSL is better" in sentence and sentence.endswith("weak evidence.")


def test_the_sentence_says_if_no_difference_can_be_found():
    five = paired_difference([0.5, 0.6, 0.7, 0.8, 0.9], [0.1, 0.1, 0.1, 0.1, 0.1])
    sentence = comparison_sentence(five, quantity="Dice", better="larger", p_adjusted=0.2)
    assert sentence == (
        "Dice: 5 patients are too few to find a difference of any size (p cannot be below 0.062). "
        "In these 5: SSL 0.700, the baseline 0.100, mean difference +0.600; SSL is better in 5 of "
        "them and worse in 0."
    )
    for word in ("no difference", "compatible", "interval"):
        assert word not in sentence
    tied = paired_difference([0.5, 0.6, 0.7, 0.8], [0.6, 0.7, 0.8, 0.8])
    sentence = comparison_sentence(tied, quantity="Dice", better="larger", p_adjusted=0.2)
    assert sentence.endswith("SSL is better in 0 of them, worse in 3 and equal in 1.")
    distance = five._replace(left_out=1, trainings=1, of_trainings=1)
    sentence = comparison_sentence(
        distance, quantity="ASD", better="smaller", unit="mm", beside="SSL missed 0 of 6"
    )
    assert sentence.endswith(
        "SSL 0.700 mm, the baseline 0.100 mm, mean difference +0.600 mm; SSL is better in 0 of "
        "them and worse in 5; 1 patient left out without both values; SSL missed 0 of 6; for this "
        "training only."
    )


def test_the_sentence_says_if_the_correction_may_hide_every_difference():
    six = paired_difference(np.linspace(0.5, 0.9, 6), np.zeros(6))
    sentence = comparison_sentence(
        six, quantity="Dice", better="larger", p_adjusted=9 * six.p_permutation, comparisons=9
    )
    assert (
        "smallest possible p is 0.03125 before the correction, which can multiply it by up to 9"
        in sentence
    )
    alone = comparison_sentence(six, quantity="Dice", better="larger")
    assert "SSL is better" in alone and "smallest possible" not in alone


def test_equal_values_in_every_patient_are_mentioned():
    sentence = comparison_sentence(
        paired_difference([0.5] * 20, [0.5] * 20), quantity="Dice of ET", better="larger"
    )
    assert sentence == (
        "Dice of ET: no difference was found between SSL and the baseline, 0.500 against 0.500 "
        "(mean difference 0.000, 95 % interval 0.000 to 0.000; n = 20 patients; p = 1.00, "
        "sign-flip test); the two have the same value in each of the 20 patients."
    )


def test_one_patient_is_not_tested_and_none_not_compared():
    one = paired_difference([0.5], [0.25])
    assert comparison_sentence(one, quantity="Dice", better="larger") == (
        "Dice: not tested, as there is one patient only (SSL 0.500, the baseline 0.250)."
    )
    none = paired_difference([math.nan], [0.25])
    assert comparison_sentence(none, quantity="Dice", better="larger", b="B") == (
        "Dice: not compared, as no patient has a value under both SSL and B."
    )


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.0009, "p < 0.001"),
        (0.0123, "p = 0.012"),
        (0.0504, "p = 0.0504"),
        (0.0496, "p = 0.05"),
        (0.94, "p = 0.94"),
    ],
)
def test_p_is_never_rounded_across_the_threshold(p, words):
    sentence = comparison_sentence(
        FOUND._replace(p_permutation=p), quantity="Dice", better="larger"
    )
    assert f"; {words}, sign-flip" in sentence
