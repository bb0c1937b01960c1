"""SSL minus baseline: which quantities are compared, and the paired test of each.

The unit is the patient. Folds and seeds are averaged within each patient and never counted
as n; the variance between trainings is part of interval and test where there are enough of them.
A small primary family gives the answer; all other comparisons are secondary. Holm's correction is
applied to each family separately.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from brats_jax.data.modalities import CLASSES, REGIONS
from brats_jax.reporting import captions
from brats_jax.reporting.arms import Arm, EvaluatedStage, Key, Repeat, Results
from brats_jax.reporting.averages import DISTANCES, Absences, absences, patient_values
from brats_jax.reporting.comparison_sentences import comparison_sentence
from brats_jax.reporting.paired_trainings import compare_trainings, paired_by_patient
from brats_jax.reporting.statistics import PairedDifference, holm

ALPHA = 0.05
TOO_FEW = "too few patients"  # the outcome where no p can reach ALPHA


class Tested(Protocol):
    """A dataclass with a paired test that belongs to a family of tests."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def result(self) -> PairedDifference: ...

    @property
    def adjusted(self) -> float: ...

    @property
    def family(self) -> int: ...


AnyTested = TypeVar("AnyTested", bound=Tested)


@dataclass(frozen=True)
class Quantity:
    """A number that is compared: its key, its name, and whether larger values are better."""

    key: Key
    name: str
    larger_is_better: bool
    unit: str = ""
    digits: int = 3


@dataclass(frozen=True)
class Comparison:
    """SSL minus baseline in one quantity.

    Attributes:
      ssl, baseline: the arms.
      quantity: the number compared.
      result: the paired test.
      patients: evaluated under either arm, with or without a value.
      adjusted: p after Holm's correction over the family.
      family: number of tests in the correction.
      repeats: (fold, seed) that both arms have -> mean difference over patients.
      absences: of SSL and of the baseline, for distances: what one mask alone holds.
      differences: of the patients, mean over the trainings of both arms.
    """

    ssl: Arm
    baseline: Arm
    quantity: Quantity
    result: PairedDifference
    patients: int
    adjusted: float
    family: int
    repeats: dict[Repeat, float]
    absences: tuple[Absences, Absences] | None = None
    differences: tuple[float, ...] = ()

    @property
    def found(self) -> bool:
        """Whether a difference was found."""
        return self.adjusted <= ALPHA

    @property
    def is_better(self) -> bool:
        """Whether SSL has the better mean."""
        return (self.result.mean_difference > 0) == self.quantity.larger_is_better

    @property
    def verdict(self) -> str:
        """The outcome, and the trainings for which it holds if it holds for no others."""
        if self.found and self.result.only_these_trainings:
            return f"{self.outcome}, {captions.these_only(self.result.trainings)}"
        return self.outcome

    @property
    def outcome(self) -> str:
        """'SSL better', 'SSL worse', or as `verdict` where no difference was found."""
        if not self.found:
            return verdict(self.result, self.adjusted)
        return "SSL better" if self.is_better else "SSL worse"

    @property
    def sentence(self) -> str:
        """The comparison as a sentence."""
        where = self.ssl.loss_and_settings + self.ssl.with_labels
        return comparison_sentence(
            self.result,
            quantity=f"{where}: {self.quantity.name}",
            better="larger" if self.quantity.larger_is_better else "smaller",
            unit=self.quantity.unit,
            decimals=self.quantity.digits,
            p_adjusted=self.adjusted,
            comparisons=self.family,
            alpha=ALPHA,
            beside="; ".join(
                f"{name} {found.description}"
                for name, found in zip(("SSL", "baseline"), self.absences or (), strict=False)
            ),
        )


def _volume(of: str, metric: str, convention: str) -> Key:
    return ("patient", "volumes", of, metric, convention)


PRIMARY: tuple[Quantity, ...] = tuple(
    Quantity(_volume(of, "dice", "brats2020"), f"3D Dice of {of}", True) for of in REGIONS
)
# Used where there are no volumes: tumour slices only, or a split by slice.
PRIMARY_BY_SLICE: tuple[Quantity, ...] = tuple(
    Quantity(("slice", "all slices", of, "dice", "present_only"), f"slice Dice of {of}", True)
    for of in REGIONS
)
SECONDARY: tuple[Quantity, ...] = (
    *(
        Quantity(_volume(o, "dice", "brats2020"), f"3D Dice of {o}", True)
        for o in CLASSES[1:]
        if o not in REGIONS
    ),
    *(
        Quantity(_volume(o, "hd95_mm", "brats2020"), f"3D HD95 of {o}", False, "mm", 2)
        for o in REGIONS
    ),
    *(
        Quantity(_volume(o, "asd_mm", "both_present"), f"3D ASD of {o}", False, "mm", 2)
        for o in REGIONS
    ),
    *(
        Quantity(_volume(o, "lesion_dice", "brats2023"), f"lesion-wise Dice of {o}", True)
        for o in REGIONS
    ),
    *(
        Quantity(
            ("slice", "all slices", o, "dice", "paper"),
            f"slice Dice of {o} under the paper's convention",
            True,
        )
        for o in CLASSES[1:]
    ),
    *(
        Quantity(_volume(o, "asd_mm", "penalised"), f"3D ASD of {o}, with penalty", False, "mm", 2)
        for o in REGIONS
    ),
)
_BY_SLICE_KEYS = {q.key for q in PRIMARY_BY_SLICE}


def primary(results: Results) -> list[Comparison]:
    """3D Dice of WT, TC and ET for each loss, at the largest share of labels."""
    pairs = _pairs_with_most_labels(results)
    return compare(results, pairs, PRIMARY) or compare(results, pairs, PRIMARY_BY_SLICE)


def secondary(results: Results) -> list[Comparison]:
    """Distances, classes, lesions and Dice under the paper's convention, for each loss."""
    quantities = SECONDARY
    if not captions.all_slices(results.evaluated()):
        quantities = tuple(q for q in SECONDARY if q.key[4] != "paper")
    return compare(results, _pairs_with_most_labels(results), quantities)


def by_fraction(results: Results) -> list[Comparison]:
    """The primary quantities at every share of labels, as a family of its own."""
    if len(results.fractions) < 2:
        return []
    pairs = results.pairs()
    return compare(results, pairs, PRIMARY) or compare(results, pairs, PRIMARY_BY_SLICE)


def uncompared(results: Results) -> list[tuple[Arm, Arm]]:
    """Pairs of arms with most labels that share no (fold, seed): no patient can be paired."""
    return [
        pair
        for pair in _pairs_with_most_labels(results)
        if not set.intersection(*_runs(results, pair))
    ]


def _runs(results: Results, pair: tuple[Arm, Arm]) -> list[set[Repeat]]:
    return [{(one.fold, one.seed) for one in results.arms[arm]} for arm in pair]


def partly_compared(results: Results) -> Iterator[tuple[Arm, int, int]]:
    """(SSL arm, runs of both arms, runs of either arm) where the two numbers differ."""
    for pair in _pairs_with_most_labels(results):
        ssl, baseline = _runs(results, pair)
        both = len(ssl & baseline)
        if both and both < len(ssl | baseline):
            yield pair[0], both, len(ssl | baseline)


def compared(results: Results, comparisons: Sequence[Comparison]) -> list[EvaluatedStage]:
    """The evaluations behind some comparisons: both arms in the folds and seeds of both."""
    chosen = {
        id(one): one
        for c in comparisons
        for arm in (c.ssl, c.baseline)
        for one in results.arms[arm]
        if (one.fold, one.seed) in c.repeats
    }
    return list(chosen.values())


def compare(
    results: Results, pairs: Sequence[tuple[Arm, Arm]], quantities: Sequence[Quantity]
) -> list[Comparison]:
    """One family: every quantity for which both arms of a pair were evaluated in a common run.

    A quantity without a value under both arms in any patient (ASD, if no patient has ET) is in
    the family, with n = 0.
    """
    found: list[Comparison] = []
    for ssl, baseline in pairs:
        pair = (ssl, baseline)
        common = set.intersection(*_runs(results, pair))
        shared = shared_pretraining(results.arms[ssl])
        patients = _patients(results, pair)
        for quantity in quantities:
            a, b = (patient_values(results.arms[arm], quantity.key) for arm in pair)
            result = compare_trainings(a, b, sorted(common), shared)
            if result.n or _evaluated(results, pair, quantity.key):
                result = result._replace(left_out=patients - result.n)
                repeats = _repeats(a, b)
                absent = _absences(results, pair, common, quantity.key)
                each = paired_by_patient(a, b, sorted(common))
                found.append(
                    Comparison(
                        ssl, baseline, quantity, result, patients, math.nan, 0, repeats, absent,
                        tuple((each.a - each.b).tolist()),
                    )
                )  # fmt: skip
    return holm_corrected(found)


def holm_corrected(family: Sequence[AnyTested]) -> list[AnyTested]:
    """The comparisons of a family with `adjusted`, their p after Holm's correction.

    Their `family` becomes the number of tests; a comparison without a test keeps NaN.
    """
    adjusted = holm([one.result.p for one in family])
    tests = int((~np.isnan(adjusted)).sum())
    return [
        dataclasses.replace(one, adjusted=float(p), family=tests)
        for one, p in zip(family, adjusted, strict=True)
    ]


def are_too_few(result: PairedDifference) -> bool:
    """Whether the patients are too few to find a difference of any size.

    Such a result is shown without its interval: one clear of 0 would read as a difference.
    """
    return result.smallest_p > ALPHA


def verdict(result: PairedDifference, adjusted: float) -> str:
    """The outcome by p after the correction, where larger values are better.

    'better', 'worse', 'no difference found', 'too few patients' or 'not tested'.
    """
    if math.isnan(adjusted):
        return "not tested"
    if are_too_few(result):
        return TOO_FEW
    if adjusted > ALPHA:
        return "no difference found"
    return "better" if result.mean_difference > 0 else "worse"


def _absences(
    results: Results, pair: tuple[Arm, Arm], common: set[Repeat], key: Key
) -> tuple[Absences, Absences] | None:
    """The absences of both arms in the compared trainings; None if the number has no gaps."""
    if key[3] not in DISTANCES:
        return None
    both = [
        absences([m for m in results.arms[arm] if (m.fold, m.seed) in common], key) for arm in pair
    ]
    return None if both[0] is None or both[1] is None else (both[0], both[1])


def shared_pretraining(group: Sequence[EvaluatedStage]) -> dict[Repeat, str]:
    """(fold, seed) -> the run that its encoder is from; own pretrainings are left out."""
    return {
        (one.fold, one.seed): one.run.pretraining_run for one in group if one.run.pretraining_run
    }


def is_by_slice(comparisons: Sequence[Comparison]) -> bool:
    """Whether Dice by slice was compared, because there are no volumes."""
    return any(c.quantity.key in _BY_SLICE_KEYS for c in comparisons)


def _pairs_with_most_labels(results: Results) -> list[tuple[Arm, Arm]]:
    """Pairs of arms with the largest share of labels of their loss."""
    pairs = results.pairs()
    losses = {a.loss for a, _ in pairs}
    most = {loss: max(a.fraction for a, _ in pairs if a.loss == loss) for loss in losses}
    return [(a, b) for a, b in pairs if a.fraction == most[a.loss]]


def _evaluated(results: Results, pair: tuple[Arm, Arm], key: Key) -> bool:
    """Whether both arms have readable values of a number in a run of both."""
    both = set.intersection(*_runs(results, pair))
    common = ([m for m in results.arms[arm] if (m.fold, m.seed) in both] for arm in pair)
    return all(any(key in m.rows and m.patient_scores for m in group) for group in common)


def _patients(results: Results, pair: tuple[Arm, Arm]) -> int:
    """Number of patients evaluated under either arm."""
    return len({p for arm in pair for one in results.arms[arm] for p, _ in one.voxel_counts})


def _repeats(
    a: dict[str, dict[Repeat, float]], b: dict[str, dict[Repeat, float]]
) -> dict[Repeat, float]:
    differences: dict[Repeat, list[float]] = {}
    # In the order of `a`, not of a set: the mean has the same bits every time.
    for patient in (name for name in a if name in b):
        for run in (run for run in a[patient] if run in b[patient]):
            differences.setdefault(run, []).append(a[patient][run] - b[patient][run])
    return {run: float(np.nanmean(d)) for run, d in sorted(differences.items())}
