"""Paired statistics of one value per patient: differences, intervals, tests, Holm's correction.

`paired_trainings` compares models that were trained several times.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from brats_jax.errors import BratsError

Values = Sequence[float] | Float[np.ndarray, " n"]
Method = Literal["crossed", "BCa", "percentile", "none"]
Repeat = tuple[int, int]  # fold, seed

# Random numbers drawn at once, at most: 80 MB.
_BATCH = 10_000_000


class Interval(NamedTuple):
    """Mean of n values with its interval; `left_out` values were NaN.

    `method` is 'crossed' for patients x trainings; 'BCa', 'percentile' where BCa is undefined, for
    a bootstrap over patients; or 'none' (NaN ends, n < 2).
    """

    n: int
    left_out: int
    mean: float
    low: float
    high: float
    confidence: float
    method: Method


class PairedDifference(NamedTuple):
    """The differences a - b of n patients.

    Attributes:
      n, left_out: patients compared, and patients left out because a or b is NaN.
      larger, smaller: patients with a > b and with a < b; the rest are equal.
      mean_a, mean_b, mean_difference: over the n patients.
      low, high, confidence, method: interval of the mean difference, see Interval.
      p_permutation: two-sided sign-flip test of the mean over patients alone; NaN for n < 2.
      smallest_p: smallest possible `p` with n patients.
      p_wilcoxon: two-sided signed-rank test; NaN for n < 2.
      dz: Cohen's d of paired values, mean / standard deviation (ddof 1) of the
        differences; NaN where they are all equal.
      rank_biserial: (R+ - R-) / (R+ + R-), the rank sums of the positive and negative
        differences, -1 to 1; NaN where all are zero.
      trainings, of_trainings: trainings of each model with a value, and those compared; 0 if
        the values were not given by training.
      groups: of trainings that are independent of each other.
      over_folds: whether the groups are folds; otherwise they are seeds of one fold.
      runs_left_out: (training, number of the n patients in which it is left out).
      p_crossed: two-sided test over patients and trainings; NaN with too few trainings.
      degrees_of_freedom, training_sd: of that test, see CrossedMean.
    """

    n: int
    left_out: int
    larger: int
    smaller: int
    mean_a: float
    mean_b: float
    mean_difference: float
    low: float
    high: float
    confidence: float
    method: Method
    p_permutation: float
    smallest_p: float
    p_wilcoxon: float
    dz: float
    rank_biserial: float
    trainings: int = 0
    of_trainings: int = 0
    groups: int = 0
    over_folds: bool = True
    runs_left_out: tuple[tuple[Repeat, int], ...] = ()
    p_crossed: float = math.nan
    degrees_of_freedom: float = math.nan
    training_sd: float = math.nan

    @property
    def p(self) -> float:
        """The test that decides: over patients and trainings, or over patients alone."""
        return self.p_permutation if math.isnan(self.p_crossed) else self.p_crossed

    @property
    def only_these_trainings(self) -> bool:
        """Whether the result holds for the networks as trained, and not for other trainings."""
        return self.trainings > 0 and math.isnan(self.p_crossed)


def paired_difference(
    a: Values,
    b: Values,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Compares two models on the same patients, and takes the trained networks as fixed.

    `p_permutation` flips the sign of each patient's difference, since a and b are
    exchangeable without an effect. If there are at most `resamples` sign patterns, all 2^n
    are enumerated: p = (patterns as extreme) / 2^n, doubled from the smaller side.
    Otherwise patterns are drawn and 1 is added to both counts, so that p is never 0.

    The signed-rank test drops differences of zero (scipy's zero_method 'wilcox'), is 1 if
    none is left, and is exact for small n.

    The interval is bias-corrected and accelerated (BCa), or the percentile interval where
    BCa is undefined (equal differences, very few patients). A bootstrap interval is too
    narrow for few patients: on normal differences 95 % intervals covered the mean in 80 % of
    cases at n = 5, 89 % at 10, 92 % at 20 and 94 % at 55.

    Args:
      a, b: float[N], one value for each patient in the same order; NaN leaves a pair out.
      confidence: of the interval.
      resamples: number of bootstrap samples, and of sign patterns drawn.
      seed: of the random numbers; the same seed gives the same result.

    Raises:
      BratsError: shapes differ, a value is infinite, or a setting is out of range.

    References: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 14-15;
    Phipson & Smyth 2010, https://doi.org/10.2202/1544-6115.1585 (p is never 0);
    Kerby 2014, https://doi.org/10.2466/11.IT.3.1 (rank-biserial).
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise BratsError(
            f"paired values of shapes {first.shape} and {second.shape}; "
            "give one value for each patient on both sides"
        )
    _check(np.concatenate([first, second]), confidence, resamples)
    defined = ~np.isnan(first - second)
    first, second = first[defined], second[defined]
    difference = _differences(first, second)
    interval = bootstrap_interval(difference, confidence=confidence, resamples=resamples, seed=seed)
    n = len(difference)
    dz = rank_biserial = p_permutation = p_wilcoxon = math.nan
    if n >= 2:
        p_permutation = _sign_flip_p(difference, resamples, seed)
        p_wilcoxon = float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0
        spread = float(difference.std(ddof=1)) if np.ptp(difference) > 0 else 0.0
        dz = float(difference.mean()) / spread if spread > 0 else math.nan
    if difference.any():
        ranks = stats.rankdata(np.abs(difference[difference != 0]))
        rank_biserial = float(np.sign(difference[difference != 0]) @ ranks / ranks.sum())
    return PairedDifference(
        n=n,
        left_out=len(defined) - n,
        larger=int((difference > 0).sum()),
        smaller=int((difference < 0).sum()),
        mean_a=_mean(first),
        mean_b=_mean(second),
        mean_difference=interval.mean,
        low=interval.low,
        high=interval.high,
        confidence=confidence,
        method=interval.method,
        p_permutation=p_permutation,
        smallest_p=smallest_p(n, resamples),
        p_wilcoxon=p_wilcoxon,
        dz=dz,
        rank_biserial=rank_biserial,
    )


def bootstrap_interval(
    values: Values,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Mean of one value for each patient, with the interval of `paired_difference`.

    NaN values are left out and counted.

    Raises:
      BratsError: a value is infinite, or a setting is out of range.
    """
    given = np.asarray(values, np.float64)
    _check(given, confidence, resamples)
    kept = given[~np.isnan(given)]
    n, mean = len(kept), _mean(kept)
    low = high = math.nan
    method: Method = "none"
    if n >= 2 and np.ptp(kept) == 0:
        low = high = mean
        method = "percentile"
    elif n >= 2:
        for name in ("BCa", "percentile"):
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")  # an undefined BCa interval is NaN, checked below
                result = stats.bootstrap(
                    (kept,),
                    np.mean,
                    confidence_level=confidence,
                    n_resamples=resamples,
                    batch=max(1, _BATCH // n),
                    method=name,
                    rng=np.random.default_rng((seed, 0)),
                )
            low, high = map(float, result.confidence_interval)
            method = "BCa" if name == "BCa" else "percentile"
            if math.isfinite(low) and math.isfinite(high):
                break
    return Interval(n, len(given) - n, mean, low, high, confidence, method)


def smallest_p(n: int, resamples: int = 10_000) -> float:
    """Smallest possible p of the sign-flip test: 2 / 2^n if exact, 2 / (resamples + 1) if drawn.

    With five patients it is 0.0625: no effect, however large, is significant at 0.05.
    """
    if n < 2:
        return math.nan
    return 2.0 / 2**n if 2**n <= resamples else 2 / (resamples + 1)


def holm(p_values: Values) -> Float[np.ndarray, " m"]:
    """Holm's step-down correction, which controls the family-wise error rate.

        adjusted of the i-th smallest of m = max over j <= i of min(1, (m - j + 1) p_(j))

    Written by hand: SciPy does not have it, and statsmodels is a large dependency for it.

    Args:
      p_values: float[M]; NaN, a test that was not done, stays NaN and is not counted in m.

    Returns:
      float64[M], the adjusted values in the same order.

    Raises:
      BratsError: a value outside 0 to 1, or more than one dimension.

    Reference: Holm 1979, https://www.jstor.org/stable/4615733
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1:
        raise BratsError(f"p values of shape {p.shape}; give one row, the tests of one family")
    tested = np.flatnonzero(~np.isnan(p))
    if ((p[tested] < 0) | (p[tested] > 1)).any():
        raise BratsError(f"p values between 0 and 1 are needed, not {p[tested].tolist()}")
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    result = np.full(p.shape, np.nan)
    result[order] = np.minimum(1, np.maximum.accumulate(factors * p[order]))
    return result


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b, rounded to 12 significant digits of a and b so that 0.3 - 0.2 ties with 0.2 - 0.1."""
    scale = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    if scale == 0:
        return a - b
    return np.round(a - b, 12 - math.ceil(math.log10(scale)))


def _sign_flip_p(difference: np.ndarray, resamples: int, seed: int) -> float:
    mean: Callable[..., Any] = np.mean
    result = stats.permutation_test(
        (difference,),
        mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _BATCH // len(difference)),
        rng=np.random.default_rng((seed, 1)),
    )
    return float(result.pvalue)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _check(values: np.ndarray, confidence: float, resamples: int) -> None:
    if np.isinf(values).any():
        raise BratsError("an infinite value has no mean; give the penalty meant, or NaN")
    if not 0 < confidence < 1:
        raise BratsError(f"confidence is {confidence}; it must be between 0 and 1, such as 0.95")
    if resamples < 100:
        raise BratsError(f"{resamples} resamples are too few for an interval; use 1000 or more")
