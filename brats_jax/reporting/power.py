"""How many patients and trainings would show a gain, from the variance found in this study."""

import math
from collections.abc import Sequence

from scipy import stats

from brats_jax.reporting import captions
from brats_jax.reporting.training_variance import LEAST_GROUPS, Components
from brats_jax.runtime.text import plural

GAIN = 0.01  # of Dice
TRAININGS = (1, 3, 5, 10, 20, 50)  # for which the number of patients is given
# With fewer patients no test of theirs can have p below 0.05, nor tell the spread between them.
LEAST_PATIENTS = 6
_MOST = 100_000  # patients; more are as good as never
_POWER, _ALPHA = 0.8, 0.05


def patients_needed(found: Components, trainings: int, gain: float = GAIN) -> int | None:
    """The number of patients that show a gain with a number of trainings; None: no number does.

        (z(1 - alpha / 2) + z(power))^2 * V <= gain^2
        V = patients^2 / P + trainings^2 / T + rest^2 / (P T)

    for a two-sided test at 0.05 with power 0.8 of the mean difference of P patients, each scored by
    T independent trainings of both models.

    Args:
      found: standard deviations of the difference.
      trainings: T.
      gain: the true mean difference.

    Reference: Westfall, Kenny & Judd 2014 (crossed random factors),
    https://doi.org/10.1037/xge0000014
    """
    z = float(stats.norm.ppf(1 - _ALPHA / 2) + stats.norm.ppf(_POWER))
    left = (gain / z) ** 2 - (found.trainings or 0.0) ** 2 / trainings
    if left <= 0:
        return None
    needed = max(2, math.ceil((found.patients**2 + found.rest**2 / trainings) / left - 1e-9))
    return needed if needed <= _MOST else None


def least_trainings(found: Components, gain: float = GAIN) -> int:
    """With fewer trainings no number of patients shows the gain."""
    z = float(stats.norm.ppf(1 - _ALPHA / 2) + stats.norm.ppf(_POWER))
    return math.floor((found.trainings or 0.0) ** 2 * (z / gain) ** 2) + 1


def statement(found: Components, what: str, gain: float = GAIN) -> str:
    """The numbers of patients and trainings that would show a gain, as a sentence or two.

    Args:
      found: standard deviations of the difference of `what`.
      what: the comparison in words.
      gain: the true mean difference.
    """
    source = (
        f"{plural(found.of_patients, 'patient')} and {plural(found.of_trainings, 'training')} of "
        "each model"
    )
    if found.of_patients < LEAST_PATIENTS:
        return (
            f"{what}: {source} are too few to tell how many would show a gain of {gain:g}; "
            f"evaluate at least {LEAST_PATIENTS} patients."
        )
    spreads = f"between patients {found.patients:.3f}"
    if found.trainings is None:
        needed = patients_needed(found, 1, gain)
        return (
            f"{what}: standard deviation of the difference {spreads} ({source}). "
            f"{_patients(needed)} would show a gain of {gain:g} "
            f"{captions.these_only(found.of_trainings)}: the spread between trainings is not "
            "known."
        )
    spreads += f", between trainings {found.trainings:.3f}, of the rest {found.rest:.3f}"
    ways = _ways(found, TRAININGS, gain)
    fewest = least_trainings(found, gain)
    if fewest > 1:
        ways.insert(0, f"with fewer than {plural(fewest, 'training')} no number of patients does")
        if fewest > TRAININGS[-1]:
            ways += _ways(found, (2 * fewest,), gain)
    few = ""
    if found.of_trainings < LEAST_GROUPS:
        few = (
            f" The spread between trainings is from {found.of_trainings}, so the numbers are rough."
        )
    return (
        f"{what}: standard deviation of the difference {spreads} ({source}). A gain of {gain:g} "
        f"would be found with a probability of {_POWER:.0%} as follows: {'; '.join(ways)}.{few}"
    )


def _ways(found: Components, trainings: Sequence[int], gain: float) -> list[str]:
    ways, before = [], None
    for count in trainings:
        needed = patients_needed(found, count, gain)
        if needed is not None and needed != before:
            ways.append(f"{_patients(needed)} with {plural(count, 'training')}")
            before = needed
    return ways


def _patients(needed: int | None) -> str:
    return f"more than {_MOST:,} patients" if needed is None else plural(needed, "patient")
