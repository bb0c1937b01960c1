"""Where a gain of pretraining comes from: each pretext beside controls that learn less.

    nothing      the same segmentation from random initialisation
    ImageNet     the same from an encoder of a weight file (encoder_init)
    autoencode   a pretraining whose target is its input
    shuffled     a pretraining whose target is of another patient

A pretext is compared with the arm of a control that has the same loss, label budget, decoder,
transfer and unlabelled share. The quantity is the mean of WT, TC and ET.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from brats_jax.reporting.arms import Arm, EvaluatedStage, Key, Repeat, Results
from brats_jax.reporting.averages import patient_values
from brats_jax.reporting.comparisons import (
    PRIMARY,
    PRIMARY_BY_SLICE,
    holm_corrected,
    shared_pretraining,
    verdict,
)
from brats_jax.reporting.paired_trainings import compare_trainings
from brats_jax.reporting.statistics import PairedDifference
from brats_jax.reporting.training_variance import (
    Components,
    as_table,
    components,
    independent_groups,
)
from brats_jax.reporting.variants import SHORT, pretraining_name
from brats_jax.runs.settings_comparison import IF_ABSENT, flatten
from brats_jax.tasks.pretraining import DEFAULT_PRETEXT

CONTROLS = ("shuffled", "autoencode")  # names of pretexts
# Settings in which a pretext and its control must agree.
_ALIKE = (
    "pretrain.decoder", "pretrain.context", "pretrain.unlabelled_fraction", "transfer.parts",
    "transfer.freeze_epochs", "transfer.learning_rate_factor", "transfer.other_stem",
)  # fmt: skip


@dataclass(frozen=True)
class Gain:
    """A pretext minus a control, in the mean Dice of WT, TC and ET.

    Attributes:
      arm, control: the arms.
      pretext: the pretext of the arm, in words.
      over: 'nothing', 'ImageNet', 'autoencode' or 'shuffled'.
      result: the paired test.
      spread: standard deviations of the difference; None for fewer than two patients.
      adjusted: p after Holm's correction over all gains.
      family: number of tests in the correction.
    """

    arm: Arm
    control: Arm
    pretext: str
    over: str
    result: PairedDifference
    spread: Components | None
    adjusted: float = math.nan
    family: int = 0

    @property
    def verdict(self) -> str:
        """The outcome in words, see `comparisons.verdict`."""
        return verdict(self.result, self.adjusted)


def setting(one: EvaluatedStage, name: str) -> Any:
    """A setting of the run of an evaluation, or its meaning where the run does not have it."""
    return flatten(one.run.config).get(name, IF_ABSENT.get(name))


def name_of(results: Results, arm: Arm) -> str:
    """'SSL cross_modality', 'SSL masked, unet, stem transferred', 'ImageNet' or 'baseline'."""
    group = results.arms[arm]
    if not arm.ssl:
        return "ImageNet" if _start(group) else "baseline"
    return f"SSL {pretraining_name({name: setting(group[0], name) for name in SHORT}, SHORT)}"


def gains(results: Results) -> list[Gain]:
    """Every pretext over every control that was evaluated in the same folds and seeds."""
    found = []
    for arm, group in results.arms.items():
        if not arm.ssl or _task(group) in CONTROLS:
            continue
        for over in ("nothing", "ImageNet", *reversed(CONTROLS)):
            control = _control(results, arm, over)
            gain = None if control is None else _gain(results, arm, control, over)
            if gain is not None:
                found.append(gain)
    return holm_corrected(found)


def mean_dice(group: list[EvaluatedStage], keys: tuple[Key, ...]) -> dict[str, dict[Repeat, float]]:
    """patient -> (fold, seed) -> mean over the keys; left out where one is undefined."""
    each = [patient_values(group, key) for key in keys]
    means: dict[str, dict[Repeat, float]] = {}
    for patient in each[0]:
        for run in each[0][patient]:
            values = [one.get(patient, {}).get(run, math.nan) for one in each]
            if not any(math.isnan(value) for value in values):
                means.setdefault(patient, {})[run] = float(np.mean(values))
    return means


def mean_keys(results: Results) -> tuple[Key, ...]:
    """The keys of 3D Dice, or of Dice by slice if there are no volumes; () without any tally."""
    for quantities in (PRIMARY, PRIMARY_BY_SLICE):
        keys = tuple(quantity.key for quantity in quantities)
        if any(key in one.patient_scores for one in results.evaluated() for key in keys):
            return keys
    return ()


def _gain(results: Results, arm: Arm, control: Arm, over: str) -> Gain | None:
    keys = mean_keys(results)
    pair = [results.arms[arm], results.arms[control]]
    common = set.intersection(*({(one.fold, one.seed) for one in group} for group in pair))
    if not common or not keys:
        return None
    a, b = (mean_dice(group, keys) for group in pair)
    shared = shared_pretraining(pair[0])
    result = compare_trainings(a, b, sorted(common), shared)
    each = {
        patient: {run: a[patient][run] - b[patient][run] for run in a[patient] if run in b[patient]}
        for patient in a
        if patient in b
    }
    table, runs = as_table({patient: own for patient, own in each.items() if own})
    spread = components(table, independent_groups(runs, shared)[0]) if runs else None
    return Gain(arm, control, name_of(results, arm), over, result, spread)


def _control(results: Results, arm: Arm, over: str) -> Arm | None:
    """The arm of a control with the same loss, label budget and, if it pretrains, settings."""
    mine = results.arms[arm][0]
    for other, group in results.arms.items():
        alike = (other.loss, other.fraction, other.patients) == (
            arm.loss, arm.fraction, arm.patients,
        )  # fmt: skip
        if not alike or other == arm:
            continue
        if over in CONTROLS:
            same = all(setting(group[0], name) == setting(mine, name) for name in _ALIKE)
            if other.ssl and other.variant == arm.variant and _task(group) == over and same:
                return other
        elif other.ssl:
            continue
        elif over == "ImageNet":
            if _start(group) and not _start(results.arms[arm]):
                return other
        elif other.variant == arm.variant and not _start(group):
            return other
    return None


def _task(group: list[EvaluatedStage]) -> str:
    return str(setting(group[0], "pretrain.task") or DEFAULT_PRETEXT)


def _start(group: list[EvaluatedStage]) -> str:
    """The weight file that an arm starts from; '' for random initialisation."""
    path = str(setting(group[0], "encoder_init") or "random")
    return "" if path == "random" else path
