"""Evaluations grouped by arm of the experiment.

An arm is one loss, with or without pretraining, with one share of the labels: the paper
compares arms. Folds and seeds repeat an arm; they are averaged within the arm, and within
each patient.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from brats_jax.errors import BratsError
from brats_jax.evaluation import conventions
from brats_jax.evaluation.conventions import volume_counts
from brats_jax.evaluation.tallies import SCORED, PretrainingTally, SegmentationTally, Slices
from brats_jax.evaluation.yardsticks import YARDSTICKS
from brats_jax.reporting.read_runs import FoldFiles, Run, Study
from brats_jax.reporting.variants import variants_of
from brats_jax.runs.documents import CROSS_VALIDATION, Evaluation
from brats_jax.runs.folder import STAGES
from brats_jax.runtime.text import plural
from brats_jax.tasks.pretraining import DEFAULT_DECODER, DEFAULT_PRETEXT

Key = tuple[str, str, str, str, str]  # unit, over, of, metric, convention
Repeat = tuple[int, int]  # fold, seed

LOSS_NAMES: dict[str, str] = {
    "dice_ce": "Dice + CE",
    "dice_focal": "Dice + Focal",
    "focal": "Focal only",
}

# Rows that evaluations of version 0.1.0 do not have, one of each kind.
_ADDED: dict[str, tuple[Key, ...]] = {
    "segment": (("slice", "all slices", "ED", "missed", "truth_present"),),
    "pretrain": (("slice", "tumour slices", "slice", "mse", ""),),
}


@dataclass(frozen=True, order=True)
class Arm:
    """One arm of the experiment.

    Attributes:
      loss: the loss of the segmentation.
      fraction: share of the training patients whose labels were used.
      variant: other settings of the segmentation in which the runs of the report differ, or ''.
      pretraining: settings of the pretraining in which they differ: 'masked, unet', or ''.
      ssl: whether the network was pretrained.
      patients: the number of patients with labels, where the runs were given one; else 0.
    """

    loss: str
    fraction: float
    variant: str
    pretraining: str
    ssl: bool
    patients: int = 0

    @property
    def loss_name(self) -> str:
        return LOSS_NAMES.get(self.loss, self.loss)

    @property
    def start(self) -> str:
        """'SSL' or 'baseline', with the settings that only this arm has in brackets."""
        name = "SSL" if self.ssl else "baseline"
        return f"{name} ({self.settings})" if self.settings else name

    @property
    def settings(self) -> str:
        """The settings that only this arm has."""
        return "; ".join(x for x in (self.variant, self.pretraining) if x)

    @property
    def loss_and_settings(self) -> str:
        """The loss, with the settings that only this arm has in brackets."""
        return f"{self.loss_name} ({self.settings})" if self.settings else self.loss_name

    @property
    def label(self) -> str:
        """Loss, start and share of the labels in words."""
        return f"{self.loss_name}, {self.start}{self.with_labels}"

    @property
    def labels(self) -> str:
        """'5 %', '3 patients'."""
        return plural(self.patients, "patient") if self.patients else percent(self.fraction)

    @property
    def with_labels(self) -> str:
        """', 5 % of the labels', ', labels of 3 patients', or '' with all."""
        if self.patients:
            return f", labels of {self.labels}"
        return "" if self.fraction == 1 else f", {self.labels} of the labels"


@dataclass
class EvaluatedStage:
    """The evaluation of one stage of one fold of one run.

    Attributes:
      stage: 'pretrain', 'segment', or the name of a yardstick of the pretraining.
      rows: by key (mean, number of slices or patients); NaN where undefined.
      problems: the study's list of unreadable files, to which an unreadable tally is added.
    """

    run: Run
    fold: int
    files: FoldFiles
    stage: str
    evaluation: Evaluation
    rows: dict[Key, tuple[float, int]]
    problems: list[str]

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def cross_validates(self) -> bool:
        """Whether each fold has test patients of its own."""
        return self.evaluation.set == CROSS_VALIDATION

    @property
    def like_the_paper(self) -> tuple[bool, bool]:
        """Whether the pretext, and whether its decoder, is the paper's; orders pretrainings."""
        pretrain = self.run.document.settings.pretrain
        return pretrain.task == DEFAULT_PRETEXT, pretrain.decoder == DEFAULT_DECODER

    @cached_property
    def patient_scores(self) -> dict[Key, dict[str, float]]:
        """Scores by patient, slices averaged; {} without a tally.

        The tally's scores are computed here, once for each evaluation.
        """
        if self.stage != "segment":
            found = self._image_scores
            return {} if found is None else _by_patient(found[1], found[0].patients)
        if self._tally is None:
            return {}
        chosen = (s for s in self._scores if s.unit == "patient" or s.metric == "dice")
        return _by_patient(chosen, self._tally.slices.patients)

    @cached_property
    def voxel_counts(self) -> dict[tuple[str, str], tuple[int, int, int]]:
        """(tp, fp, fn) by (patient, region), over the patient's evaluated slices."""
        if self._tally is None:
            return {}
        counts = volume_counts(self._tally)
        return {
            (str(patient), of): tuple(int(n) for n in counts[p, r])  # type: ignore[misc]
            for p, patient in enumerate(self._tally.slices.patients)
            for r, of in enumerate(SCORED)
        }

    @property
    def yardsticks(self) -> dict[str, "EvaluatedStage"]:
        """The yardsticks of a pretraining by name, each in the form of an evaluated stage."""
        rows = {name: _rows(self.evaluation, name) for name in YARDSTICKS}
        return {
            name: replace(self, stage=name, rows=found) for name, found in rows.items() if found
        }

    def add_rows_of_tally(self) -> None:
        """Adds the rows that evaluations of earlier versions lack, computed from the tally."""
        if all(key in self.rows for key in _ADDED[self.stage]):
            return
        if self.stage == "segment":
            scores = self._scores
        else:
            scores = [] if self._image_scores is None else self._image_scores[1]
        for score in scores:
            self.rows.setdefault(score.key, (score.mean(), score.count()))

    @cached_property
    def _scores(self) -> list[conventions.Scores]:
        return [] if self._tally is None else conventions.scores_of(self._tally)

    @cached_property
    def _image_scores(self) -> tuple[Slices, list[conventions.Scores]] | None:
        """Slices and scores of a pretraining, or of the yardstick that `stage` names."""
        try:
            tally = PretrainingTally.load(self.files.folder.tally("pretrain"))[0]
        except BratsError as error:
            self.problems.append(str(error))
            return None
        if self.stage == "pretrain":
            return tally.slices, conventions.scores_of(tally)
        return tally.slices, conventions.yardstick_scores(tally).get(self.stage, [])

    @cached_property
    def _tally(self) -> SegmentationTally | None:
        try:
            return SegmentationTally.load(self.files.folder.tally(self.stage))[0]
        except BratsError as error:
            self.problems.append(str(error))
            return None


@dataclass
class Results:
    """All evaluations of a study.

    Attributes:
      arms: evaluated segmentations by arm, in the order of folds and seeds.
      pretrainings: evaluated pretrainings by variant. The first variant is shown beside the paper's
        numbers: it has the paper's pretext and decoder, then most trainings. A pretraining that
        several runs share is listed once.
      problems: a line for each file that could not be read.
      segmented_from: the variants of pretraining that evaluated SSL segmentations started from.
    """

    arms: dict[Arm, list[EvaluatedStage]] = field(default_factory=dict)
    pretrainings: dict[str, list[EvaluatedStage]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    segmented_from: set[str] = field(default_factory=set)

    @property
    def losses(self) -> list[str]:
        """Losses that were evaluated: the paper's in its order, then others."""
        found = {arm.loss for arm in self.arms}
        return [x for x in LOSS_NAMES if x in found] + sorted(found - set(LOSS_NAMES))

    @property
    def fractions(self) -> list[float]:
        """Shares of the labels in ascending order."""
        return sorted({arm.fraction for arm in self.arms})

    @property
    def budgets(self) -> list[str]:
        """['labels of 1 patient', '25 % of the labels']; [] if all arms have all labels."""
        arms = sorted(self.arms, key=lambda arm: arm.fraction)
        words = dict.fromkeys(arm.with_labels.removeprefix(", ") or "all labels" for arm in arms)
        return [] if list(words) == ["all labels"] else list(words)

    def main_arm(self, loss: str, ssl: bool) -> Arm | None:
        """The arm shown beside the paper's: most labels, the paper's pretext, most trainings."""
        mine = [arm for arm in self.arms if arm.loss == loss and arm.ssl == ssl]

        def rank(arm: Arm) -> tuple[Any, ...]:
            group = self.arms[arm]
            return arm.fraction, group[0].like_the_paper if ssl else (), len(group)

        return max(mine, key=rank, default=None)

    def pairs(self) -> list[tuple[Arm, Arm]]:
        """(SSL, baseline) arms that differ in the pretraining only."""
        found = []
        for arm in sorted(self.arms):
            base = Arm(arm.loss, arm.fraction, arm.variant, "", False, arm.patients)
            if arm.ssl and base in self.arms:
                found.append((arm, base))
        return found

    def evaluated(self, stage: str = "segment") -> list[EvaluatedStage]:
        """All evaluations of a stage."""
        groups = self.arms if stage == "segment" else self.pretrainings
        return [one for group in groups.values() for one in group]


def _by_patient(
    scores: Iterable[conventions.Scores], names: np.ndarray
) -> dict[Key, dict[str, float]]:
    return {
        score.key: {str(names[p]): value for p, value in score.by_patient().items()}
        for score in scores
    }


def collect(study: Study) -> Results:
    """Groups the evaluations of a study by arm."""
    results = Results(problems=study.problems)
    variants = variants_of(study.runs)
    seen: set[tuple[Any, ...]] = set()
    for run in study.runs:
        variant, pretraining, first_stage = variants[run.name]
        group = "; ".join(x for x in (variant, first_stage) if x)
        for number, files in run.folds.items():
            if files.evaluation is None:
                continue
            for stage in STAGES:
                rows = _rows(files.evaluation, stage)
                if not rows:
                    continue
                one = EvaluatedStage(
                    run, number, files, stage, files.evaluation, rows, results.problems
                )
                one.add_rows_of_tally()
                if stage == "segment":
                    own = pretraining if run.ssl else ""
                    own_labels = (run.fraction, run.label_patients)
                    arm = Arm(run.loss, own_labels[0], variant, own, run.ssl, own_labels[1])
                    results.arms.setdefault(arm, []).append(one)
                    results.segmented_from |= {group} if run.ssl else set()
                else:
                    # Runs with the same pretraining share one encoder, which counts once.
                    identity = (group, run.seed, number, *(str(v) for v in sorted(rows.items())))
                    if identity not in seen:
                        seen.add(identity)
                        results.pretrainings.setdefault(group, []).append(one)
    for group_ in (*results.arms.values(), *results.pretrainings.values()):
        group_.sort(key=lambda one: (one.fold, one.seed))
    results.arms = dict(sorted(results.arms.items(), key=lambda item: _order(item[0])))
    results.pretrainings = dict(
        sorted(
            results.pretrainings.items(),
            key=lambda item: (item[1][0].like_the_paper, len(item[1])),
            reverse=True,
        )
    )
    return results


def percent(fraction: float) -> str:
    """'5 %', '0.5 %'."""
    return f"{100 * fraction:.3g} %"


def _order(arm: Arm) -> tuple[Any, ...]:
    losses = list(LOSS_NAMES)
    place = losses.index(arm.loss) if arm.loss in losses else len(losses)
    return (place, -arm.fraction, arm.variant, arm.ssl, arm.pretraining)


def _rows(evaluation: Evaluation, stage: str) -> dict[Key, tuple[float, int]]:
    return {
        row.key[1:]: (float("nan") if row.mean is None else float(row.mean), row.count)
        for row in evaluation.rows
        if row.stage == stage
    }
