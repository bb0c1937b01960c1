"""Paired statistics: values by hand, values of other packages, and error rates over many draws."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from brats_jax.errors import BratsError
from brats_jax.reporting.statistics import (
    bootstrap_interval,
    holm,
    paired_difference,
    smallest_p,
)

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "statistics.npz")
CASES = range(3)


def test_three_patients_by_hand():
    result = paired_difference([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    # Of the 8 sign patterns of (1, 2, 3) only + + + and - - - are as far from zero.
    assert result.p_permutation == result.smallest_p == 2 / 8
    assert result.p_wilcoxon == 2 / 8
    assert (result.n, result.larger, result.smaller, result.left_out) == (3, 3, 0, 0)
    assert (result.mean_a, result.mean_b, result.mean_difference) == (2, 0, 2)
    assert result.dz == 2  # mean 2, standard deviation 1
    assert result.rank_biserial == 1
    assert result.low == 1 and result.high == 3


def test_four_patients_one_of_them_worse():
    result = paired_difference([1.0, 2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 4.0])
    # Differences 1 2 3 -4, sum 2; of 16 patterns the sum is 2 or more, or -2 or less, in 14:
    # all but the two that sum to 0 (1 - 2 - 3 + 4 and its mirror).
    assert result.p_permutation == 14 / 16
    assert result.rank_biserial == (1 + 2 + 3 - 4) / 10
    assert (result.larger, result.smaller) == (3, 1)
    assert result.mean_difference == 0.5


def test_exchanging_the_models_mirrors_everything():
    a, b = GOLDEN["a/0"], GOLDEN["b/0"]
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert other.mean_difference == -one.mean_difference
    assert other.dz == -one.dz and other.rank_biserial == -one.rank_biserial
    assert other.p_wilcoxon == one.p_wilcoxon
    assert other.p_permutation == pytest.approx(one.p_permutation, abs=0.003)
    np.testing.assert_allclose([other.low, other.high], [-one.high, -one.low], atol=0.002)


@pytest.mark.parametrize("i", CASES)
def test_agrees_with_other_packages(i):
    a, b = GOLDEN[f"a/{i}"], GOLDEN[f"b/{i}"]
    result = paired_difference(a, b, resamples=50_000)
    assert result.rank_biserial == pytest.approx(GOLDEN[f"rank_biserial/{i}"].item())
    # The random draws differ; case 1 has means in steps of 0.004.
    tolerance = 0.005 if i == 1 else 0.01 * (result.high - result.low)
    np.testing.assert_allclose([result.low, result.high], GOLDEN[f"bca/{i}"], atol=tolerance)
    few = paired_difference(a[:8], b[:8])
    assert few.p_permutation == pytest.approx(GOLDEN[f"exact/{i}"].item())


@pytest.mark.parametrize("i", CASES)
def test_agrees_with_the_t_statistic_and_scipy(i):
    a, b = GOLDEN[f"a/{i}"], GOLDEN[f"b/{i}"]
    result = paired_difference(a, b)
    assert result.dz == pytest.approx(stats.ttest_rel(a, b).statistic / math.sqrt(len(a)))
    assert result.p_wilcoxon == stats.wilcoxon(np.round(a - b, 9)).pvalue
    if i != 1:  # the sums of case 1 tie; the next test has its exact p
        assert result.p_permutation == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.02)


def test_the_drawn_test_counts_ties_as_extreme():
    a, b = GOLDEN["a/1"], GOLDEN["b/1"]
    tenths = np.round(10 * (a - b)).astype(int)
    # sum -> number of the 2^25 sign patterns that have it, built up patient by patient.
    patterns = {0: 1}
    for d in tenths:
        longer: dict[int, int] = {}
        for total, count in patterns.items():
            for signed in (total + d, total - d):
                longer[signed] = longer.get(signed, 0) + count
        patterns = longer
    extreme = sum(count for total, count in patterns.items() if abs(total) >= abs(tenths.sum()))
    p = paired_difference(a, b).p_permutation
    assert p == pytest.approx(extreme / 2 ** len(tenths), abs=0.015)


def test_the_drawn_test_is_near_the_exact_one_and_never_zero():
    difference = np.arange(1.0, 9.0) * [1, 1, -1, 1, 1, -1, 1, 1]
    exact = paired_difference(difference, np.zeros(8), resamples=1000)
    drawn = paired_difference(difference, np.zeros(8), resamples=250)
    assert exact.smallest_p == 2 / 256 and drawn.smallest_p == 2 / 251
    assert drawn.p_permutation == pytest.approx(exact.p_permutation, abs=0.06)
    assert paired_difference(np.arange(1.0, 41), np.zeros(40)).p_permutation == 2 / 10_001


def test_the_same_seed_gives_the_same_numbers():
    a, b = GOLDEN["a/0"], GOLDEN["b/0"]
    assert paired_difference(a, b, seed=5) == paired_difference(a, b, seed=5)
    assert paired_difference(a, b, seed=5).low != paired_difference(a, b, seed=6).low


def test_sums_in_another_order_make_no_difference():
    # 0.3 - 0.2, 0.2 - 0.1 and 0.5 - 0.4 are three different floats.
    result = paired_difference([0.3, 0.2, 0.5, 0.1], [0.2, 0.1, 0.4, 0.2])
    assert result.p_permutation == 10 / 16 and result.rank_biserial == 0.5
    equal = paired_difference([0.1 + 0.2, 0.7], [0.3, 0.1 + 0.6])
    assert (equal.larger, equal.smaller) == (0, 0)


def test_nan_pairs_are_left_out():
    nan = math.nan
    result = paired_difference([1.0, nan, 2.0, 3.0, nan], [0.0, 5.0, 0.0, nan, nan])
    assert (result.n, result.left_out) == (2, 3)
    assert (result.mean_a, result.mean_b) == (1.5, 0)
    assert result.p_permutation == 2 / 4


def test_the_interval_of_equal_differences_is_a_point():
    result = paired_difference([0.3, 0.4, 0.5], [0.2, 0.3, 0.4])
    assert result.low == result.high == result.mean_difference == pytest.approx(0.1)
    assert result.method == "percentile"
    assert math.isnan(result.dz) and result.rank_biserial == 1
    assert result.p_permutation == 2 / 8


def test_no_difference_at_all():
    result = paired_difference([0.3, 0.4, 0.5], [0.3, 0.4, 0.5])
    assert result.p_permutation == result.p_wilcoxon == 1
    assert result.low == result.high == result.mean_difference == 0
    assert math.isnan(result.dz) and math.isnan(result.rank_biserial)
    assert paired_difference([0.0, 0.0], [0.0, 0.0]).p_permutation == 1


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_patients_have_no_interval_and_no_test(n):
    result = paired_difference([0.5] * n, [0.4] * n)
    assert result.n == n and result.method == "none"
    for value in (result.low, result.high, result.p_permutation, result.p_wilcoxon, result.dz):
        assert math.isnan(value)
    assert math.isnan(result.mean_a) == (n == 0)
    assert math.isnan(result.smallest_p)


def test_the_smallest_p_depends_on_the_number_of_patients():
    assert [smallest_p(n) for n in (2, 5, 6, 13)] == [0.5, 0.0625, 0.03125, 2 / 8192]
    assert smallest_p(14) == smallest_p(369) == 2 / 10_001
    strongest = paired_difference([1.0, 2, 3, 4, 5], [0.0] * 5)
    assert strongest.p_permutation == strongest.smallest_p == 0.0625


def test_bad_input_is_refused():
    with pytest.raises(BratsError, match="shapes"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(BratsError, match="infinite"):
        paired_difference([1.0, math.inf], [1.0, 2.0])
    with pytest.raises(BratsError, match="confidence is 95"):
        bootstrap_interval([1.0, 2.0], confidence=95)
    with pytest.raises(BratsError, match="resamples"):
        bootstrap_interval([1.0, 2.0], resamples=10)
    with pytest.raises(BratsError, match="between 0 and 1"):
        holm([0.5, 1.5])
    with pytest.raises(BratsError, match="one row"):
        holm(np.ones((2, 2)))


def test_the_interval_of_a_mean_leaves_out_nan():
    interval = bootstrap_interval([0.2, math.nan, 0.4, 0.9, 0.5], confidence=0.9)
    assert (interval.n, interval.left_out, interval.confidence) == (4, 1, 0.9)
    assert interval.mean == pytest.approx(0.5) and interval.method == "BCa"
    assert 0.2 < interval.low < 0.5 < interval.high < 0.9
    wider = bootstrap_interval([0.2, 0.4, 0.9, 0.5], confidence=0.99)
    assert wider.low < interval.low and wider.high > interval.high
    assert bootstrap_interval([0.7]).method == "none"
    assert bootstrap_interval([0.7, 0.7])[2:5] == (0.7, 0.7, 0.7)


def test_the_interval_is_that_of_scipy():
    values = GOLDEN["a/2"]
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng((4, 0))
    ).confidence_interval
    interval = bootstrap_interval(values, resamples=2000, seed=4)
    assert (interval.low, interval.high) == tuple(expected)


@pytest.mark.parametrize("i", range(3))
def test_holm_agrees_with_statsmodels(i):
    np.testing.assert_allclose(holm(GOLDEN[f"p/{i}"]), GOLDEN[f"holm/{i}"], rtol=1e-12)


def test_holm_by_hand():
    # 4 x 0.005, 3 x 0.01, 2 x 0.03; the last is raised to the one before it.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_array_equal(holm([0.6, 0.7]), [1, 1])


def test_holm_leaves_out_tests_that_were_not_done():
    adjusted = holm([0.01, math.nan, 0.04, 0.03, 0.005, math.nan])
    np.testing.assert_allclose(adjusted, [0.03, math.nan, 0.06, 0.06, 0.02, math.nan])
    assert len(holm([])) == 0 and math.isnan(holm([math.nan])[0])


def test_the_exact_test_has_exactly_its_nominal_error_rate():
    # Under no effect every sign pattern is as likely: over all of them P(p <= k/32) = k/32.
    magnitudes = np.array([1.0, 2, 4, 8, 16, 32])  # no two patterns have the same sum
    patterns = itertools.product([-1, 1], repeat=6)
    p = np.array(
        [
            paired_difference(magnitudes * signs, np.zeros(6), resamples=100).p_permutation
            for signs in patterns
        ]
    )
    np.testing.assert_array_equal(np.sort(p), np.repeat(np.arange(1, 33) / 32, 2))


def test_the_drawn_test_has_its_nominal_error_rate():
    rng = np.random.default_rng(0)
    p = [
        paired_difference(rng.standard_t(3, 20), np.zeros(20), resamples=199).p_permutation
        for _ in range(300)
    ]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09  # 0.05 +- 3 standard errors
    assert 0.42 < np.mean(np.array(p) <= 0.5) < 0.58


def test_a_true_difference_is_found():
    rng = np.random.default_rng(1)
    found = [
        paired_difference(rng.normal(0.6, 1, 40), np.zeros(40), resamples=499).p_permutation <= 0.05
        for _ in range(60)
    ]
    assert np.mean(found) > 0.85  # the t test's power is 0.96


@pytest.mark.parametrize("skewed", [False, True])
def test_intervals_cover_the_truth(skewed):
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        values = rng.exponential(1.0, 40) if skewed else rng.normal(1.0, 1.0, 40)
        interval = bootstrap_interval(values, resamples=400)
        hits += interval.low <= 1.0 <= interval.high
    assert 0.88 < hits / 300 < 0.98
