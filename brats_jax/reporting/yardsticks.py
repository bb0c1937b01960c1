"""Pretrainings compared with predictions that need no network, paired by patient."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from brats_jax.data.modalities import DISPLAY_NAMES
from brats_jax.evaluation.yardsticks import REGRESSION, YARDSTICKS, term_names
from brats_jax.reporting import captions
from brats_jax.reporting.arms import EvaluatedStage, Key, Results
from brats_jax.reporting.averages import patient_values
from brats_jax.reporting.comparisons import ALPHA, holm_corrected
from brats_jax.reporting.paired_trainings import compare_trainings
from brats_jax.reporting.statistics import PairedDifference
from brats_jax.runtime.text import joined

_REGIONS = ("brain", "slice", "tumour")
_OF = {"brain": "the brain", "slice": "the whole slice", "tumour": "the tumour"}


@dataclass(frozen=True)
class YardstickComparison:
    """A pretraining minus a yardstick in the MSE over one region.

    Attributes:
      pretraining: its settings where the report has several, '' otherwise.
      yardstick: its name.
      region: 'brain', 'slice' or 'tumour'.
      over: 'all slices' or 'tumour slices', those that the pretraining trains on.
      result: the paired test.
      adjusted: p after Holm's correction over the family.
      family: number of tests in it.
    """

    pretraining: str
    yardstick: str
    region: str
    over: str
    result: PairedDifference
    adjusted: float
    family: int

    @property
    def outcome(self) -> str:
        """'beats it', 'does not beat it', 'is not shown to beat it' or 'not compared'."""
        if self.result.n == 0:
            return "not compared"
        if self.result.mean_difference >= 0:
            return "does not beat it"
        return "beats it" if self.adjusted <= ALPHA else "is not shown to beat it"

    @property
    def verdict(self) -> str:
        """The outcome as a sentence, with the two means and the number of patients."""
        r = self.result
        name = f" ({self.pretraining})" if self.pretraining else ""
        if r.n == 0:
            return (
                f"The pretraining{name} is not compared with the {self.yardstick}: no patient has "
                "a value under both."
            )
        words = {
            "beats it": "beats",
            "does not beat it": "does not beat",
            "is not shown to beat it": "is not shown to beat",
        }[self.outcome]
        few = ""
        if self.outcome == "is not shown to beat it":
            few = (
                f"; {r.n} patients are too few to show a difference of any size (p cannot be below "
                f"{r.smallest_p:.2g})"
            )
            if r.smallest_p <= ALPHA:
                few = f", no difference was found (p = {self.adjusted:.2g})"
        return (
            f"The pretraining{name} {words} the {self.yardstick}, which needs no network: MSE over "
            f"{_OF[self.region]} {r.mean_a:.3f} against {r.mean_b:.3f} (ratio "
            f"{r.mean_a / r.mean_b:.2f}), smaller in {r.smaller} of {r.n} "
            f"{'patient' if r.n == 1 else 'patients'}, {self.over}{few}."
        )

    @property
    def change(self) -> str:
        """The MSE relative to the yardstick's: '32 % smaller over the brain'."""
        where = f"over {_OF[self.region]}"
        if self.result.n == 0:
            return f"without a value {where}"
        percent = 100 * (self.result.mean_a / self.result.mean_b - 1)
        amount = f"{abs(percent):.{0 if abs(percent) >= 9.95 else 1}f}"
        if float(amount) == 0:
            return f"equal {where}"
        return f"{amount} % {'smaller' if percent < 0 else 'larger'} {where}"


def yardsticks_of(group: Sequence[EvaluatedStage], yardstick: str) -> list[EvaluatedStage]:
    """The yardstick of each pretraining that has one."""
    found = (one.yardsticks.get(yardstick) for one in group)
    return [one for one in found if one is not None]


def regression_note(group: Sequence[EvaluatedStage]) -> str:
    """The regression per voxel in a sentence, for captions."""
    pairs = {(one.evaluation.inputs, one.evaluation.target) for one in group}
    what = joined(
        [
            f"{DISPLAY_NAMES.get(target, target)} = a linear combination of "
            f"{', '.join(term_names(inputs))} ({len(term_names(inputs))} numbers)"
            for inputs, target in sorted(pairs)
        ],
        "or",
    )
    return (
        f"Regression, without a network: per voxel, {what}, fitted by least squares to the slices "
        "of this data set on which the pretraining trains, and scored on the same test slices; no "
        "number of the paper."
    )


def compare_with_yardsticks(results: Results) -> list[YardstickComparison]:
    """Compares every pretraining with every yardstick, as one family."""
    found: list[YardstickComparison] = []
    for variant, group in results.pretrainings.items():
        over, _ = captions.slices_of_pretraining(group)
        for yardstick in YARDSTICKS:
            beside = yardsticks_of(group, yardstick)
            if not beside:
                continue
            runs = [(one.fold, one.seed) for one in group]
            for region in _REGIONS:
                slices = "tumour slices" if region == "tumour" else over
                key: Key = ("slice", slices, region, "mse", "")
                a, b = patient_values(group, key), patient_values(beside, key)
                result = compare_trainings(a, b, runs)
                name = variant if len(results.pretrainings) > 1 else ""
                found.append(
                    YardstickComparison(name, yardstick, region, slices, result, float("nan"), 0)
                )
    return holm_corrected(found)


def in_words(comparisons: Sequence[YardstickComparison]) -> list[str]:
    """A sentence for each pretraining and yardstick, over all regions; the table has the tests."""
    groups: dict[tuple[str, str], list[YardstickComparison]] = {}
    for one in comparisons:
        groups.setdefault((one.pretraining, one.yardstick), []).append(one)
    found = []
    for (pretraining, yardstick), group in groups.items():
        start = f"Pretraining{pretraining and f' ({pretraining})'} against the {yardstick}"
        outcomes = {one.outcome for one in group if one.result.n}
        if not outcomes:
            found.append(f"{start}: not compared, as no patient has a value under both.")
            continue
        changes = [
            one.change + (f" ({one.outcome})" if len(outcomes) > 1 and one.result.n else "")
            for one in group
        ]
        end = ""
        if len(outcomes) == 1:
            (outcome,) = outcomes
            other = " other" * any(one.result.n == 0 for one in group)
            where = f"in {'every' if outcome == 'beats it' else 'any'}{other} region"
            end = f"; the pretraining {outcome.removesuffix('it')}the {yardstick} {where}"
        found.append(f"{start}: MSE {joined(changes)}{end}.")
    few = {
        one.region: one.result.smallest_p
        for one in comparisons
        if one.result.n and one.result.smallest_p > ALPHA
    }
    if few:
        regions = {one.region for one in comparisons if one.result.n}
        where = f"Over {joined([_OF[region] for region in few])} the" if regions - {*few} else "The"
        found.append(
            f"{where} patients are too few to find a difference of any size: p cannot be below "
            f"{max(few.values()):.2g}."
        )
    return found


def verdicts(comparisons: Sequence[YardstickComparison]) -> Iterator[str]:
    """For each pretraining, whether it beats the regression over the brain."""
    for one in comparisons:
        if one.yardstick == REGRESSION and one.region == "brain":
            yield one.verdict
