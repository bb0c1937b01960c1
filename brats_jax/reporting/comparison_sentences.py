"""One comparison of two models as a sentence."""

import math
from typing import Literal

from brats_jax.reporting import captions
from brats_jax.reporting.statistics import PairedDifference
from brats_jax.runtime.text import joined, plural

# With fewer patients a bootstrap interval is noticeably too narrow: on normal differences
# 95 % intervals covered the mean in 92 % of cases at n = 15, 89 % at 10, 80 % at 5.
FEW_PATIENTS = 15


def comparison_sentence(
    result: PairedDifference,
    *,
    quantity: str,
    better: Literal["larger", "smaller"],
    a: str = "SSL",
    b: str = "the baseline",
    unit: str = "",
    decimals: int = 3,
    p_adjusted: float | None = None,
    comparisons: int = 1,
    alpha: float = 0.05,
    beside: str = "",
) -> str:
    """States whether a and b differ, which is better, by how much, and with what certainty.

    A p above alpha reads "no difference was found", with the range of differences that the
    data are compatible with; the sentence never claims equality. With so few patients that no p
    can reach alpha, the sentence says so and has no test and no range. A result over too few
    trainings to know their variance is stated for these trainings only.

    Args:
      result: of a - b, from `compare_trainings` or `paired_difference`.
      quantity: the number compared, such as 'Dice of ED'.
      better: whether larger or smaller values are better.
      a, b: the two models.
      unit: of the number, such as 'mm'.
      decimals: shown of means and differences.
      p_adjusted: the test's p after `holm`; the uncorrected one if None.
      comparisons: number of tests in the correction.
      alpha: largest p at which a difference is found.
      beside: what the number leaves out, in words.

    Returns:
      One sentence, followed by warnings where there are few patients or where interval and
      test disagree.
    """
    if result.n == 0:
        return f"{quantity}: not compared, as no patient has a value under both {a} and {b}."
    mean_a, mean_b = (_number(m, decimals, unit) for m in (result.mean_a, result.mean_b))
    if result.n == 1:
        return f"{quantity}: not tested, as there is one patient only ({a} {mean_a}, {b} {mean_b})."
    if result.smallest_p > alpha:
        return _too_few(result, quantity, better, a, b, unit, decimals, beside)
    means = f"{mean_a} against {mean_b}"
    p = result.p if p_adjusted is None else p_adjusted
    found = p <= alpha
    facts = "; ".join(
        [
            *_facts(result, decimals, unit),
            *([beside] if beside else []),
            _test(result, p, alpha, p_adjusted is not None, comparisons),
        ]
    )
    scope = ""
    if result.only_these_trainings:
        scope = f"{captions.these_only(result.trainings)}, "
    if found:
        is_better = (result.mean_difference > 0) == (better == "larger")
        text = (
            f"{quantity}: {scope}{a} is {'better' if is_better else 'worse'} than {b}, {means} "
            f"({facts})."
        )
    elif result.larger == result.smaller == 0:
        text = f"{quantity}: {scope}no difference was found between {a} and {b}, {means} ({facts})"
        text += f"; the two have the same value in each of the {result.n} patients."
    else:
        text = f"{quantity}: {scope}no difference was found between {a} and {b}, {means} ({facts})"
        if not _excludes_zero(result):
            text += f"; the data are compatible with {_range(result, better, a, decimals, unit)}"
        text += "."
    return " ".join([text, *_warnings(result, found, p_adjusted is not None, comparisons, alpha)])


def _too_few(
    result: PairedDifference,
    quantity: str,
    better: str,
    a: str,
    b: str,
    unit: str,
    decimals: int,
    beside: str,
) -> str:
    """The sentence where no p can reach alpha: the values of these patients, without a test."""
    mean_a, mean_b = (_number(m, decimals, unit) for m in (result.mean_a, result.mean_b))
    ways = (
        (result.larger, result.smaller) if better == "larger" else (result.smaller, result.larger)
    )
    difference = _signed(result.mean_difference, decimals)
    equal = result.n - result.larger - result.smaller
    counts = [f"better in {ways[0]} of them", f"worse in {ways[1]}"]
    counts += [f"equal in {equal}"] * (equal > 0)
    facts = [
        f"{a} {mean_a}, {b} {mean_b}, mean difference {difference}{unit and ' ' + unit}",
        f"{a} is {joined(counts)}",
    ]
    if result.left_out:
        facts.append(f"{plural(result.left_out, 'patient')} left out without both values")
    if result.trainings != result.of_trainings:
        facts.append(f"{result.trainings} of {result.of_trainings} trainings of each")
    if result.runs_left_out:
        facts.append(runs_left_out(result))
    if beside:
        facts.append(beside)
    if result.only_these_trainings:
        facts.append(captions.these_only(result.trainings))
    return (
        f"{quantity}: {result.n} patients are too few to find a difference of any size (p cannot "
        f"be below {result.smallest_p:.2g}). In these {result.n}: {'; '.join(facts)}."
    )


def _excludes_zero(result: PairedDifference) -> bool:
    return result.low > 0 or result.high < 0


def _facts(result: PairedDifference, decimals: int, unit: str) -> list[str]:
    low, high = (_signed(x, decimals) for x in (result.low, result.high))
    difference = _signed(result.mean_difference, decimals)
    interval = f"{100 * result.confidence:g} % interval {low} to {high}"
    facts = [f"mean difference {difference}{unit and ' ' + unit}, {interval}"]
    left_out = f", {result.left_out} left out without both values" if result.left_out else ""
    facts.append(f"n = {result.n} patients{left_out}")
    if result.trainings:
        some = f" of {result.of_trainings}" if result.trainings != result.of_trainings else ""
        facts.append(
            f"{result.trainings}{some} trainings of each"
            if result.of_trainings > 1
            else ("1 training of each")
        )
    if result.runs_left_out:
        facts.append(runs_left_out(result))
    return facts


def runs_left_out(result: PairedDifference) -> str:
    """'left out without both values: fold 2 in 4 patients'; '' if nothing is."""
    seeds = {seed for (_, seed), _ in result.runs_left_out}
    runs = [
        f"fold {fold}{f' seed {seed}' if len(seeds) > 1 else ''} in {plural(n, 'patient')}"
        for (fold, seed), n in result.runs_left_out
    ]
    return f"left out without both values: {joined(runs)}" if runs else ""


def _test(
    result: PairedDifference, p: float, alpha: float, adjusted: bool, comparisons: int
) -> str:
    text = "p < 0.001" if p < 0.001 else f"p = {p:.2f}" if p >= 0.095 else f"p = {p:.2g}"
    if (float(text[4:]) <= alpha) != (p <= alpha):
        text = f"p = {p:.4g}"  # 0.0504 must not be rounded to 0.05
    correction = f", Holm's correction over {comparisons} comparisons" if adjusted else ""
    if math.isnan(result.p_crossed):
        return f"{text}, sign-flip test{correction}"
    degrees = f"{result.degrees_of_freedom:.1f} degrees of freedom"
    return f"{text}, t test over patients and trainings with {degrees}{correction}"


def _range(result: PairedDifference, better: str, a: str, decimals: int, unit: str) -> str:
    """The interval from its worse to its better end: 'SSL 0.004 worse to 0.008 better'."""
    ends = (result.low, result.high) if better == "larger" else (-result.high, -result.low)

    def words(gain: float) -> str:
        if float(_number(gain, decimals, "")) == 0:
            return "no different"
        return f"{_number(abs(gain), decimals, unit)} {'better' if gain > 0 else 'worse'}"

    return f"anything from {a} {words(ends[0])} to {words(ends[1])}"


def _warnings(
    result: PairedDifference, found: bool, adjusted: bool, comparisons: int, alpha: float
) -> list[str]:
    warnings = []
    excludes_zero = _excludes_zero(result)
    if excludes_zero and not found:
        corrected = ", which is not corrected for the number of comparisons," if adjusted else ""
        warnings.append(
            f"The interval{corrected} excludes zero, but the test finds no difference: weak "
            "evidence at most."
        )
    elif found and not excludes_zero:
        warnings.append(
            "The interval includes zero, although the test finds a difference: weak evidence."
        )
    if adjusted and alpha >= result.smallest_p > alpha / comparisons:
        warnings.append(
            f"With {result.n} patients the smallest possible p is {result.smallest_p:.4g} before "
            f"the correction, which can multiply it by up to {comparisons}."
        )
    if not result.only_these_trainings and not result.over_folds:
        warnings.append("All trainings have the same training patients.")
    if result.n < FEW_PATIENTS and result.method != "crossed":
        warnings.append(f"With {result.n} patients the interval is too narrow.")
    return warnings


def _number(value: float, decimals: int, unit: str) -> str:
    return f"{value:.{decimals}f}{unit and ' ' + unit}"


def _signed(value: float, decimals: int) -> str:
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text
