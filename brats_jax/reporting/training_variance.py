"""The mean of a patients x trainings table, with the variance of both: interval and test.

A network that is trained again scores a little better or worse in all patients. A test that
resamples patients alone takes the trained networks as fixed and finds such shifts "significant":
with a shift of 0.01 Dice per training (SD) in 13 % of the comparisons without an effect, at a
nominal 5 %. benchmarks/numerics/type_one_error.py measures this, and the level of the test here.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

# With fewer independent groups of trainings the data do not tell how much another training
# would change the result: the error rate of the test rises to 0.08 with three.
LEAST_GROUPS = 5

# Satterthwaite's degrees of freedom are somewhat too many where few trainings dominate the
# variance: with G - 1 for the trainings the error rate was up to 0.062, with G - 1.25 it is
# 0.045 to 0.059 over all patients and shifts that were tried.
_LESS_FREEDOM = 1.25

_ROUNDS = 50  # of the fit of patients and groups where values are missing


class CrossedMean(NamedTuple):
    """The mean over patients and trainings as an estimate for new patients and new trainings.

    Attributes:
      patients, trainings, groups: numbers; a group holds the trainings that may share an effect.
      mean: over the patients of each patient's mean over its trainings.
      standard_error: of the mean.
      degrees_of_freedom: of the t distribution, Satterthwaite's.
      low, high: ends of the t interval.
      p: two-sided, of a mean of 0.
      training_sd: standard deviation of the shift that a group gives to all patients.
    """

    patients: int
    trainings: int
    groups: int
    mean: float
    standard_error: float
    degrees_of_freedom: float
    low: float
    high: float
    p: float
    training_sd: float


def independent_groups(
    runs: Sequence[tuple[int, int]], shared: Mapping[tuple[int, int], Hashable] | None = None
) -> tuple[list[Hashable], bool]:
    """The group of each training (fold, seed), and whether the groups are folds.

    Seeds of a fold share their training patients, so a fold is one group. Where all trainings
    are of one fold, each seed is a group, and the result holds for these training patients.

    Args:
      runs: (fold, seed) of each training.
      shared: what several seeds of one fold have in common, such as their pretraining.
    """
    if len({fold for fold, _ in runs}) != 1:
        return [fold for fold, _ in runs], True
    return [(shared or {}).get(run, run) for run in runs], False


def crossed_mean(
    values: Float[np.ndarray, "p t"],
    groups: Sequence[Hashable],
    *,
    confidence: float = 0.95,
    least_groups: int = LEAST_GROUPS,
) -> CrossedMean | None:
    """Mean of a table with its interval and test over patients and groups of trainings.

        value = mean + patient + group + rest

        V = max(V_patients + V_groups - V_rest, V_patients)
        V_patients  variance of the patients' means / P
        V_groups    variance of the groups' means / G
        V_rest      interaction mean square / (P G), which both hold

    The two-way random effects analysis of variance by the method of moments: mean / sqrt(V) is
    compared with a t distribution with Satterthwaite's degrees of freedom,

        V^2 / (V_patients^2 / (P - 1) + V_groups^2 / (G - 1.25))

    Where values are missing, a group's mean is over deviations from the patient's own mean, and
    G is the effective number of groups, 1 / sum of squared weights.

    In a cross-validation every patient is in one group alone, and such deviations do not exist.
    Then V is the larger of V_patients, with P - 1 degrees of freedom, and

        V_groups = sum_g share_g^2 (mean_g - mean)^2 G / (G - 1)      with G - 1

    which holds the variance of patients and of groups.

    Args:
      values: a row for each patient, a column for each training; NaN where there is none. A
        patient without any value must be left out before.
      groups: of each training.
      confidence: of the interval.
      least_groups: with fewer there is no test.

    Returns:
      None if there are fewer than two patients or `least_groups` groups.

    References: Satterthwaite 1946, https://doi.org/10.2307/3002019; Clark 1973,
    https://doi.org/10.1016/S0022-5371(73)80014-3 (patients and trainings both random); Owen 2007,
    https://doi.org/10.1214/07-AOAS122 (V_patients + V_groups - V_rest).
    """
    least = max(least_groups, 2)
    if len(values) < 2 or len(set(groups)) < least:
        return None
    table, weight = _by_group(np.asarray(values, np.float64), groups)
    patients, count = table.shape
    if count < least:
        return None
    held = weight > 0
    own = (weight * table).sum(axis=1)  # the patient's mean over its trainings
    mean = float(own.mean())
    v_patients = float(own.var(ddof=1)) / patients

    if (held.sum(axis=1) == 1).all():
        return _nested_mean(table, held, v_patients, confidence, values.shape[1])

    # Deviations from the patient's own mean: a group that lacks difficult patients is not easier.
    of_cell = weight / patients
    shifts = (of_cell * np.where(held, table - own[:, None], 0)).sum(axis=0)
    share = of_cell.sum(axis=0)
    w2, w3 = float((share**2).sum()), float((share**3).sum())
    v_groups = float((shifts**2).sum()) * w2 / (w2 - 2 * w3 + w2**2)
    freedom = max(1 / w2 - _LESS_FREEDOM, 0.25)

    rest = _interaction(table, held)
    spare = int(held.sum()) - patients - count + 1
    rest_square = float((rest**2).sum()) / spare if spare > 0 else 0.0
    v_rest = rest_square * float((of_cell**2).sum())

    v = max(v_patients + v_groups - v_rest, v_patients)
    training_sd = math.sqrt(max(v_groups - v_rest, 0) / w2)
    if v <= (1e-12 * np.abs(table).max()) ** 2:  # the same value everywhere
        p = 1.0 if mean == 0 else 0.0
        return CrossedMean(
            patients, values.shape[1], count, mean, 0.0, math.inf, mean, mean, p, training_sd
        )
    df = v**2 / (v_patients**2 / (patients - 1) + v_groups**2 / freedom)
    df = min(max(df, 1.0), patients - 1.0)
    error = math.sqrt(v)
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, df))
    return CrossedMean(
        patients, values.shape[1], count, mean, error, df, mean - half, mean + half, p, training_sd
    )


def _nested_mean(
    table: np.ndarray, held: np.ndarray, v_patients: float, confidence: float, trainings: int
) -> CrossedMean:
    """`crossed_mean` of patients who are in one group each: bool[P, G] `held`."""
    patients, count = table.shape
    mean = float(table[held].mean())
    of_group = np.array([table[held[:, g], g].mean() for g in range(count)])
    share = held.sum(axis=0) / patients
    v_groups = float((share**2 * (of_group - mean) ** 2).sum()) * count / (count - 1)
    by_group = v_groups > v_patients
    v, df = (v_groups, count - 1) if by_group else (v_patients, patients - 1)
    training_sd = math.sqrt(max(v_groups - v_patients, 0) / float((share**2).sum()))
    error = math.sqrt(v)
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * error
    same = error <= 1e-12 * np.abs(table[held]).max()
    p = float(mean == 0) if same else float(2 * stats.t.sf(abs(mean) / error, df))
    return CrossedMean(
        patients, trainings, count, mean, error, df, mean - half, mean + half, p, training_sd
    )


class Components(NamedTuple):
    """Standard deviations of a value: between patients, between trainings, and of the rest.

    Attributes:
      patients, trainings, rest: the three; `trainings` is None where all are one group.
      of_patients, of_trainings: numbers that they were estimated from.
    """

    patients: float
    trainings: float | None
    rest: float
    of_patients: int
    of_trainings: int


def components(values: Float[np.ndarray, "p t"], groups: Sequence[Hashable]) -> Components | None:
    """Variance components of `value = mean + patient + group + rest`, by the method of moments.

        rest      interaction mean square
        patients  (mean square of patients - rest) / G
        groups    (mean square of groups - rest) / P

    Args:
      values: a row for each patient, a column for each training. Patients without a value in one of
        the groups are left out.
      groups: of each training.

    Returns:
      None for fewer than two patients. With one group, what it cannot tell apart is in `patients`.
    """
    table, weight = _by_group(np.asarray(values, np.float64), groups)
    table = table[(weight > 0).all(axis=1)]
    patients, count = table.shape
    if patients < 2:
        return None
    own, of_group = table.mean(axis=1), table.mean(axis=0)
    spread = float(own.var(ddof=1))
    if count < 2:
        return Components(math.sqrt(spread), None, 0.0, patients, count)
    residual = table - own[:, None] - of_group[None] + table.mean()
    rest = float((residual**2).sum()) / ((patients - 1) * (count - 1))
    between = float(of_group.var(ddof=1)) - rest / patients
    return Components(
        math.sqrt(max(spread - rest / count, 0)),
        math.sqrt(max(between, 0)),
        math.sqrt(rest),
        patients,
        count,
    )


def as_table(
    values: Mapping[str, Mapping[tuple[int, int], float]],
) -> tuple[Float[np.ndarray, "p t"], list[tuple[int, int]]]:
    """Patient -> run -> value as a table [patients, runs], NaN where missing, and its runs."""
    runs = sorted({run for own in values.values() for run, x in own.items() if not math.isnan(x)})
    table = np.array([[own.get(run, math.nan) for run in runs] for own in values.values()])
    table = table.reshape(len(values), len(runs))
    return table[~np.isnan(table).all(axis=1)], runs


def _by_group(values: np.ndarray, groups: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """(mean of each patient over the trainings of each group, share of them in the patient's)."""
    names = list(dict.fromkeys(groups))
    held = ~np.isnan(values)
    of_patient = held.sum(axis=1)
    columns, weights = [], []
    filled = np.where(held, values, 0)
    place = np.array([names.index(g) for g in groups])
    for k in range(len(names)):
        here = place == k
        n = held[:, here].sum(axis=1)
        columns.append(filled[:, here].sum(axis=1) / np.maximum(n, 1))
        weights.append(n / np.maximum(of_patient, 1))
    table, weight = np.stack(columns, axis=1), np.stack(weights, axis=1)
    used = (weight > 0).any(axis=0)
    return table[:, used], weight[:, used]


def _interaction(table: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Residuals of the least-squares fit patient + group; 0 where there is no value."""
    rest = np.where(held, table, 0)
    in_row, in_column = np.maximum(held.sum(axis=1), 1), np.maximum(held.sum(axis=0), 1)
    for _ in range(1 if held.all() else _ROUNDS):
        rest = np.where(held, rest - (rest.sum(axis=1) / in_row)[:, None], 0)
        rest = np.where(held, rest - (rest.sum(axis=0) / in_column)[None], 0)
    return rest
