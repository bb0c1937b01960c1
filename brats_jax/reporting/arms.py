"""What was measured, in order: arms of the experiment, and within each its folds and seeds.

An arm is what the paper compares: a loss, with or without pretraining, with a share of the
labels. Folds and seeds repeat an arm; they are averaged within it, and within each patient.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from brats_jax.errors import BratsError
from brats_jax.evaluation import conventions
from brats_jax.evaluation.conventions import volume_counts
from brats_jax.evaluation.rows import KEYS
from brats_jax.evaluation.tallies import SCORED, SegmentationTally
from brats_jax.reporting.read_runs import FoldFiles, Run, Study
from brats_jax.runs.evaluated import ASKED

Key = tuple[str, str, str, str, str]  # unit, over, of, metric, convention

LOSS_NAMES: dict[str, str] = {
    "dice_ce": "Dice + CE",
    "dice_focal": "Dice + Focal",
    "focal": "Focal only",
}
# Axes of the experiment, and what never changes a result: runs that differ in nothing else
# belong together.
AXES = ("loss", "ssl", "seed", "folds", "data.label_fraction", "pretrain.run")
IRRELEVANT = (
    "compilation_cache",
    "data.store",  # what is in it counts, not where it lies
    "data.workers",
    "data.threads",
    "data.placement",
    "train.steps_per_dispatch",
    "train.deterministic",
    "train.log_every_steps",
    "train.save_every_steps",
    "evaluation.panels",
    "evaluation.batch_size",
)


@dataclass(frozen=True, order=True)
class Arm:
    """One arm of the experiment.

    Attributes:
      loss: of the segmentation.
      fraction: share of the training patients whose labels were seen.
      variant: settings in which the runs differ although they are not axes, '' if none.
      pretext: the same of the pretraining.
      ssl: whether pretrained.
    """

    loss: str
    fraction: float
    variant: str
    pretext: str
    ssl: bool

    @property
    def loss_name(self) -> str:
        return LOSS_NAMES.get(self.loss, self.loss)

    @property
    def start(self) -> str:
        """'SSL' or 'baseline', and what else tells the arm from others."""
        name = "SSL" if self.ssl else "baseline"
        extra = [x for x in (self.variant, self.pretext) if x]
        return f"{name} ({'; '.join(extra)})" if extra else name

    @property
    def label(self) -> str:
        """All of it in words."""
        labels = "" if self.fraction == 1 else f", {percent(self.fraction)} of the labels"
        return f"{self.loss_name}, {self.start}{labels}"


@dataclass
class Measured:
    """One evaluated stage of one fold of one run.

    Attributes:
      rows: (mean, count of units) by key; NaN where undefined.
      problems: a line is added where the tally cannot be read.
    """

    run: Run
    fold: int
    files: FoldFiles
    stage: str
    evaluation: dict[str, Any]
    rows: dict[Key, tuple[float, int]]
    problems: list[str]

    @property
    def seed(self) -> int:
        return self.run.seed

    @cached_property
    def patients(self) -> dict[Key, dict[str, float]]:
        """Of a segmentation: each number by patient, slices averaged; {} without a tally."""
        if self._tally is None:
            return {}
        names = self._tally.slices.patients
        return {
            score.key: {str(names[p]): value for p, value in score.by_patient().items()}
            for score in conventions.segmentation_scores(self._tally)
            if score.unit == "patient" or score.metric == "dice"
        }

    @cached_property
    def voxels(self) -> dict[tuple[str, str], tuple[int, int, int]]:
        """(tp, fp, fn) by patient and region, over the patient's evaluated slices."""
        if self._tally is None:
            return {}
        counts = volume_counts(self._tally)
        return {
            (str(patient), of): tuple(int(n) for n in counts[p, r])  # type: ignore[misc]
            for p, patient in enumerate(self._tally.slices.patients)
            for r, of in enumerate(SCORED)
        }

    @cached_property
    def _tally(self) -> SegmentationTally | None:
        try:
            return SegmentationTally.load(self.files.tally(self.stage))[0]
        except BratsError as error:
            self.problems.append(str(error))
            return None


@dataclass
class Results:
    """Everything that was measured.

    Attributes:
      arms: evaluated segmentations by arm, in the order of folds and seeds.
      pretext: evaluated reconstructions by variant, none twice.
      problems: lines for what could not be read.
    """

    arms: dict[Arm, list[Measured]] = field(default_factory=dict)
    pretext: dict[str, list[Measured]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def losses(self) -> list[str]:
        """Those that were trained, the paper's in its order."""
        found = {arm.loss for arm in self.arms}
        return [x for x in LOSS_NAMES if x in found] + sorted(found - set(LOSS_NAMES))

    @property
    def fractions(self) -> list[float]:
        """Shares of the labels, ascending."""
        return sorted({arm.fraction for arm in self.arms})

    def main(self, loss: str, ssl: bool) -> Arm | None:
        """The arm that stands in the paper's tables: most labels, then most folds and seeds."""
        mine = [arm for arm in self.arms if arm.loss == loss and arm.ssl == ssl]
        best = max(mine, key=lambda a: (a.fraction, len(self.arms[a])), default=None)
        return best

    def pairs(self) -> list[tuple[Arm, Arm]]:
        """(SSL, baseline) that differ in nothing but the pretraining."""
        found = []
        for arm in sorted(self.arms):
            base = Arm(arm.loss, arm.fraction, arm.variant, "", False)
            if arm.ssl and base in self.arms:
                found.append((arm, base))
        return found

    def measured(self, stage: str = "segment") -> list[Measured]:
        """All of a stage."""
        groups = self.arms if stage == "segment" else self.pretext
        return [one for group in groups.values() for one in group]


def by_fold(group: Iterable[Measured], key: Key) -> dict[int, float]:
    """Mean over the seeds of each fold; folds in which the number is undefined are left out."""
    values: dict[int, list[float]] = {}
    for one in group:
        mean = one.rows.get(key, (float("nan"), 0))[0]
        if not np.isnan(mean):
            values.setdefault(one.fold, []).append(mean)
    return {fold: float(np.mean(found)) for fold, found in sorted(values.items())}


def over_folds(group: Iterable[Measured], key: Key) -> tuple[float, int]:
    """(mean over folds of means over seeds, largest count of units); NaN and 0 without any."""
    group = list(group)
    folds = by_fold(group, key)
    counts = [one.rows[key][1] for one in group if key in one.rows]
    return (float(np.mean(list(folds.values()))) if folds else float("nan"), max(counts, default=0))


def by_patient(group: Iterable[Measured], key: Key) -> dict[str, dict[tuple[int, int], float]]:
    """patient -> {(fold, seed): value}."""
    values: dict[str, dict[tuple[int, int], float]] = {}
    for one in group:
        for patient, value in one.patients.get(key, {}).items():
            values.setdefault(patient, {})[one.fold, one.seed] = value
    return values


def collect(study: Study) -> Results:
    """Sorts what the runs of a study left into arms."""
    results = Results(problems=study.problems)
    variants = _variants(study.runs)
    seen: set[tuple[Any, ...]] = set()
    for run in study.runs:
        variant, pretext = variants[run.name]
        for number, files in run.folds.items():
            if files.evaluation is None:
                continue
            for stage in ("pretrain", "segment"):
                rows = _rows(files.evaluation, stage)
                if not rows:
                    continue
                one = Measured(run, number, files, stage, files.evaluation, rows, results.problems)
                if stage == "segment":
                    arm = Arm(run.loss, run.fraction, variant, pretext if run.ssl else "", run.ssl)
                    results.arms.setdefault(arm, []).append(one)
                else:
                    group = "; ".join(x for x in (variant, pretext) if x)
                    # Runs that pretrained alike have the same encoder: it counts once.
                    identity = (group, run.seed, number, *(str(v) for v in sorted(rows.items())))
                    if identity not in seen:
                        seen.add(identity)
                        results.pretext.setdefault(group, []).append(one)
    for group_ in (*results.arms.values(), *results.pretext.values()):
        group_.sort(key=lambda one: (one.fold, one.seed))
    results.arms = dict(sorted(results.arms.items(), key=lambda item: _order(item[0])))
    return results


def percent(fraction: float) -> str:
    """'5 %', '0.5 %'."""
    return f"{100 * fraction:.3g} %"


def _order(arm: Arm) -> tuple[Any, ...]:
    losses = list(LOSS_NAMES)
    place = losses.index(arm.loss) if arm.loss in losses else len(losses)
    return (place, -arm.fraction, arm.variant, arm.ssl, arm.pretext)


def _rows(evaluation: dict[str, Any], stage: str) -> dict[Key, tuple[float, int]]:
    rows: dict[Key, tuple[float, int]] = {}
    for row in evaluation["rows"]:
        if row["stage"] == stage:
            mean = float("nan") if row["mean"] is None else float(row["mean"])
            unit, over, of, metric, convention = (str(row[k]) for k in KEYS[1:])
            rows[unit, over, of, metric, convention] = (mean, int(row["count"]))
    return rows


def _variants(runs: list[Run]) -> dict[str, tuple[str, str]]:
    """By run: in which settings it differs from others, of the segmentation and the pretext."""
    settings = {run.name: _settings(run) for run in runs}
    # What a run without pretraining says about it means nothing.
    pretexts = {run.name: settings[run.name] for run in runs if run.ssl}
    shared = [n for n in _differing(settings) if not n.startswith("pretrain.")]
    pretext = [n for n in _differing(pretexts) if n.startswith("pretrain.")]
    found = {}
    for name, mine in settings.items():
        words = [f"{n} = {mine.get(n)}" for n in shared]
        own = [f"{n} = {mine.get(n)}" for n in pretext] if name in pretexts else []
        found[name] = (", ".join(words), ", ".join(own))
    return found


def _differing(settings: dict[str, dict[str, Any]]) -> list[str]:
    names = sorted({name for mine in settings.values() for name in mine})
    return [n for n in names if len({str(mine.get(n)) for mine in settings.values()}) > 1]


def _settings(run: Run) -> dict[str, Any]:
    found = {
        name: value
        for name, value in flat(run.config).items()
        if name not in AXES and name not in IRRELEVANT
    }
    if _only_float32(run):
        found.pop("train.float32_epochs", None)  # of a type that it does not compute in
    else:
        found.setdefault("train.float32_epochs", 0)  # an earlier version, which had none
    # What was evaluated, which --mode=evaluate may ask otherwise than the run was started with.
    for name in ASKED:
        asked = {
            str(fold.evaluation[name])
            for fold in run.folds.values()
            if fold.evaluation is not None and name in fold.evaluation
        }
        if asked:
            found[f"evaluation.{name}"] = " and ".join(sorted(asked))
    found["store"] = str(run.document.get("store", {}).get("fingerprint", ""))[:8]
    if run.splits is not None:
        names = [str(name) for name in run.splits.get("test", [])]
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:6]
        found["test set"] = f"{len(names)} {run.split_by}s ({digest})"
    return found


def _only_float32(run: Run) -> bool:
    dtype = run.config.get("dtype")
    return dtype == "float32" or (dtype == "auto" and "cpu" in run.document.get("devices", ""))


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name, as they are given on the command line."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found
