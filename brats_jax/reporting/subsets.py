"""Missing modalities: the 3D Dice from every subset, by arm, the drops, and what training gains.

    drop(subset) = Dice from all modalities - Dice from the subset, paired by patient and training
    gain         = an arm that was trained for missing modalities - an arm that was not, which
                   differs in nothing but settings of the segmentation

The mean over the subsets is taken within each patient and training first.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from brats_jax.data.modalities import REGIONS
from brats_jax.data.subsets import Subset, subsets_of
from brats_jax.evaluation.subset_scores import dice_of
from brats_jax.reporting.arms import Arm, EvaluatedStage, Repeat, Results
from brats_jax.reporting.comparisons import holm_corrected, shared_pretraining, verdict
from brats_jax.reporting.paired_trainings import compare_trainings
from brats_jax.reporting.statistics import PairedDifference
from brats_jax.runs.documents.subsets import SubsetEvaluation

Values = Mapping[str, Mapping[Repeat, float]]  # patient -> (fold, seed) -> Dice

MEAN = "mean of WT, TC and ET"
# Means over the 15 subsets on BraTS 2020, in %, as the authors' repositories print them: of other
# patients, splits and networks than those of a report.
PUBLISHED: dict[str, tuple[float, float, float]] = {
    "U-HVED": (81.24, 67.19, 48.55),
    "RFNet": (86.98, 78.23, 61.47),
    "DeMoSeg": (88.90, 81.58, 69.71),
}


@dataclass(frozen=True)
class SubsetArm:
    """The trainings of an arm that were evaluated from every subset of their inputs.

    Attributes:
      arm: the arm.
      group: its evaluations with such documents, of equal inputs.
      trained: whether the networks were trained for missing modalities.
      inputs: of the segmentation.
    """

    arm: Arm
    group: tuple[EvaluatedStage, ...]
    trained: bool
    inputs: tuple[str, ...]

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """In the order of the literature; the last one is all inputs."""
        return subsets_of(self.inputs)

    @property
    def runs(self) -> list[Repeat]:
        """(fold, seed) of its trainings."""
        return sorted({(one.fold, one.seed) for one in self.group})

    @cached_property
    def _dice(self) -> dict[tuple[Subset, str], dict[str, dict[Repeat, float]]]:
        found: dict[tuple[Subset, str], dict[str, dict[Repeat, float]]] = {}
        for one in self.group:
            document = one.files.subsets
            assert document is not None
            for subset in self.subsets:
                for region in REGIONS:
                    dice = dice_of(document, subset, region)
                    own = found.setdefault((subset, region), {})
                    for patient, value in zip(document.patients, dice, strict=True):
                        own.setdefault(patient, {})[one.fold, one.seed] = float(value)
        return found

    def values(self, subset: Subset, of: str) -> Values:
        """Dice of a region, or `MEAN`, from one subset; from (): the mean over all subsets."""
        parts = [
            self._dice[each, region]
            for each in ([subset] if subset else self.subsets)
            for region in (REGIONS if of == MEAN else [of])
        ]
        return {
            patient: {run: float(np.mean([part[patient][run] for part in parts])) for run in own}
            for patient, own in parts[0].items()
        }

    def mean(self, subset: Subset, of: str) -> float:
        """The mean over patients of the means over their trainings."""
        values = self.values(subset, of)
        return float(np.mean([np.mean(list(own.values())) for own in values.values()]))

    @property
    def patients(self) -> int:
        return len(self.values((), next(iter(REGIONS))))

    def drop(self, subset: Subset, of: str) -> PairedDifference:
        """Dice from all inputs minus Dice from a subset; for (): minus the mean over subsets."""
        a, b = self.values(self.subsets[-1], of), self.values(subset, of)
        return compare_trainings(a, b, self.runs, shared_pretraining(self.group))


@dataclass(frozen=True)
class SubsetGain:
    """An arm that was trained for missing modalities minus one that was not.

    Attributes:
      trained, other: the arms.
      subset: the modalities given; () for the mean over all subsets.
      of: a region, or `MEAN`.
      result: the paired test.
      adjusted: p after Holm's correction over all gains.
      family: number of tests in the correction.
    """

    trained: SubsetArm
    other: SubsetArm
    subset: Subset
    of: str
    result: PairedDifference
    adjusted: float = math.nan
    family: int = 0

    @property
    def verdict(self) -> str:
        """The outcome in words, see `comparisons.verdict`."""
        return verdict(self.result, self.adjusted)


def arms_of(results: Results) -> list[SubsetArm]:
    """The arms that were evaluated from every subset.

    Left out are evaluations of another checkpoint, and trainings whose inputs differ from those of
    the arm's first training.
    """
    found = []
    for arm, group in results.arms.items():
        usable = [one for one in group if _document(one, results.problems) is not None]
        documents = [one.files.subsets for one in usable]
        if documents and (first := documents[0]) is not None:
            alike = tuple(
                one for one, document in zip(usable, documents, strict=True)
                if document is not None and _set_up(document) == _set_up(first)
            )  # fmt: skip
            found.append(SubsetArm(arm, alike, first.trained_for_missing, first.inputs))
    return found


def _set_up(document: SubsetEvaluation) -> tuple[object, ...]:
    return document.inputs, document.trained_for_missing


def _document(one: EvaluatedStage, problems: list[str]) -> SubsetEvaluation | None:
    """The subsets of the evaluated checkpoint; of another one a line is added to `problems`."""
    found, best = one.files.subsets, one.evaluation.checkpoints.get("segment")
    if found is None:
        return None
    average = one.evaluation.tta, one.evaluation.planes
    if best is None or (found.checkpoint.step, found.tta, found.planes) != (best.step, *average):
        problems.append(
            f"{one.files.folder.path}: its subsets are of another checkpoint than its evaluation, "
            "or averaged otherwise; give the command that trained with --mode=evaluate "
            "--config.evaluation.subsets=True"
        )
        return None
    return found


def gains(arms: Sequence[SubsetArm]) -> list[SubsetGain]:
    """Trained minus not trained, from all inputs and over all subsets, of arms otherwise alike."""
    found = []
    for trained, other in _pairs(arms):
        common = sorted({*trained.runs} & {*other.runs})
        for subset in (trained.subsets[-1], ()):
            for of in (*REGIONS, MEAN):
                a, b = trained.values(subset, of), other.values(subset, of)
                result = compare_trainings(a, b, common, shared_pretraining(trained.group))
                found.append(SubsetGain(trained, other, subset, of, result))
    return holm_corrected(found)


def _pairs(arms: Sequence[SubsetArm]) -> Iterator[tuple[SubsetArm, SubsetArm]]:
    def alike(one: SubsetArm) -> tuple[object, ...]:
        arm = one.arm
        return one.inputs, arm.loss, arm.fraction, arm.patients, arm.ssl, arm.pretraining

    for trained in arms:
        for other in arms:
            differ = trained.trained and not other.trained
            common = {*trained.runs} & {*other.runs}
            if differ and common and alike(trained) == alike(other):
                yield trained, other


def sentences(arms: Sequence[SubsetArm]) -> Iterator[str]:
    """One for each arm: from all modalities, the mean over the subsets, and the worst of them."""
    for one in arms:
        full, mean = (
            ", ".join(f"{of} {one.mean(subset, of):.3f}" for of in REGIONS)
            for subset in (one.subsets[-1], ())
        )
        how = "trained for missing modalities" if one.trained else "zeros in their place"
        yield (
            f"{one.arm.label} ({how}): from all modalities {full}; mean of the "
            f"{len(one.subsets)} subsets {mean}."
        )


def published() -> str:
    """The means of the literature in a sentence."""
    each = [
        f"{name} {'/'.join(f'{value:.2f}' for value in values)}"
        for name, values in PUBLISHED.items()
    ]
    return (
        "Published means over the 15 subsets (WT/TC/ET in %, BraTS 2020; other patients, splits "
        f"and networks than here): {', '.join(each)}."
    )
