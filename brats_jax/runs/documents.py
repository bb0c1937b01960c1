"""The JSON documents of run and grid folders: a frozen dataclass each. See `document.py`."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from brats_jax.data.planes import AXIAL, PLANES
from brats_jax.runs.axes import Axes
from brats_jax.runs.recorded_settings import RecordedSettings
from brats_jax.runs.store_facts import StoreFacts
from brats_jax.runtime.document import Document, Part, Sealed, SealedDocument
from brats_jax.runtime.json_text import parse_json

REEVALUATE_HINT = "give the command that trained again: it evaluates again without training"
_REMAKE_HINT = "give the command that trained again: it makes this file again"
_SETTINGS_HINT = (
    "undo the change if it was edited, copy it again if it was copied, or give another --workdir"
)
# Of documents that people edit on purpose.
EDITED = Sealed.CHANGED[:-1] + "; to keep an edit, remove its entry 'sha256')"


@dataclass(frozen=True)
class RunConfig(SealedDocument):
    """config.json of a run: what it was started with.

    Attributes:
      config: the settings, as JSON has them.
      store: the data.
      versions: of this program and its libraries, by name.
      devices: in words.
    """

    SCHEMA: ClassVar[str] = "brats_jax.config"
    REMEDY: ClassVar[str] = _SETTINGS_HINT
    CHANGED: ClassVar[str] = EDITED
    config: dict[str, Any]
    store: StoreFacts
    versions: dict[str, str] = field(default_factory=dict)
    devices: str = ""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the document.

        Raises:
          ValueError: as in `Document`, also for one of the `settings`.
        """
        parsed = super().from_json(document)
        RecordedSettings.from_json(parsed.config)
        return parsed

    @functools.cached_property
    def settings(self) -> RecordedSettings:
        """The settings that are read after training."""
        return RecordedSettings.from_json(self.config)


@dataclass(frozen=True)
class GridConfig(SealedDocument):
    """grid.json: what a grid was started with.

    Attributes:
      config: the settings that all cells share.
      store, versions: as of a run.
      axes: what was asked for, one part for each command.
    """

    SCHEMA: ClassVar[str] = "brats_jax.grid"
    REMEDY: ClassVar[str] = _SETTINGS_HINT
    CHANGED: ClassVar[str] = EDITED
    config: dict[str, Any]
    store: StoreFacts
    versions: dict[str, str]
    axes: tuple[Axes, ...]


@dataclass(frozen=True)
class CellRecord(SealedDocument):
    """cells/CELL.json: the attempts at one cell of a grid.

    Attributes:
      cell: its name.
      attempts: so far.
      host, process, started, command: of the last attempt.
      state: 'running', 'done', 'stopped' or 'failed'.
      error: of an attempt that has ended; '' unless it failed.
      ended_s: seconds since 1970, of an attempt that has ended.
      seconds: spent in all attempts.
    """

    SCHEMA: ClassVar[str] = "brats_jax.cell"
    REMEDY: ClassVar[str] = "remove it: only the number and the time of its attempts are lost"
    cell: str
    attempts: int
    host: str
    process: int
    started: str
    command: tuple[str, ...]
    state: str
    error: str | None = None
    ended_s: float | None = None
    seconds: float = field(kw_only=True)


@dataclass(frozen=True)
class StageTraining(SealedDocument):
    """training.json: the length of a stage and the data that it trains on.

    Attributes:
      patients, slices: trained on.
      of_patients, of_slices: in the fold's training set; for pretraining with the unlabelled ones.
      epochs, steps_per_epoch, steps: the length.
      unlabelled: of `patients`, those with scans without class labels.
      selection: where the best checkpoint is chosen: 'validation', on the fold's validation set;
        'held_out', on patients of the label budget that are not trained on; 'last', nowhere.
      held_out: number of these patients.
    """

    SCHEMA: ClassVar[str] = "brats_jax.training"
    REMEDY: ClassVar[str] = _REMAKE_HINT
    patients: int
    of_patients: int
    slices: int
    of_slices: int
    epochs: int
    steps_per_epoch: int
    steps: int
    unlabelled: int = 0
    selection: str = "validation"
    held_out: int = 0


@dataclass(frozen=True)
class StageResult(SealedDocument):
    """complete.json: the result of a stage that is trained to the end.

    Attributes:
      metric: the validation score that selects the best checkpoint.
      best, best_step: of the best checkpoint.
      steps: of the training.
      seconds: of its last call.
    """

    REMEDY: ClassVar[str] = _REMAKE_HINT
    metric: str
    best: float
    best_step: int
    steps: int
    seconds: float

    def has_the_weights_of(self, other: "StageResult") -> bool:
        """Whether two results are of the same weights: all agrees but the time."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in ("metric", "best", "best_step", "steps")
        )


@dataclass(frozen=True)
class TrainingFacts(Part):
    """Facts on the training data of a checkpoint, repeated beside its predictions.

    Attributes:
      split_by: 'patient' or 'slice'.
      leaks: whether a patient is in two sets of the fold; not repeated.
      normalisation: one of `data.normalise.NORMALISATIONS`.
      slice_shape: (H, W) of the store.
      store: its fingerprint.
      version: of this program.
      plane: of the slices, one of `data.planes.PLANES`.
      other_planes: those whose slices it was trained on as well.
    """

    split_by: str | None = None
    leaks: bool | None = None
    normalisation: str | None = None
    slice_shape: tuple[int, ...] | None = None
    store: str | None = None
    version: str | None = None
    plane: str = AXIAL
    other_planes: tuple[str, ...] = ()

    @property
    def planes(self) -> tuple[str, ...]:
        """All planes that it was trained on, that of `plane` first."""
        return (self.plane, *self.other_planes)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the facts.

        Raises:
          ValueError: as in `Part`; another plane, or no size of a slice.
        """
        facts = super().from_json(document)
        for plane in facts.planes:
            if plane not in PLANES:
                raise ValueError(f"'plane' is '{plane}'; valid: {', '.join(PLANES)}")
        if len({*facts.planes}) < len(facts.planes):
            raise ValueError("'other_planes' names a plane twice")
        shape = facts.slice_shape
        if shape is not None and not (len(shape) == 2 and min(shape) > 0):
            raise ValueError("'slice_shape' is no height and width")
        return facts


@dataclass(frozen=True)
class PretrainingSource(SealedDocument):
    """pretraining.json: the run that a fold's encoder comes from.

    Attributes:
      run: the run folder.
      result: of its first stage.
    """

    SCHEMA: ClassVar[str] = "brats_jax.pretraining"
    REMEDY: ClassVar[str] = "copy it again if it was copied, or give the run of the pretraining"
    run: str
    result: StageResult


@dataclass(frozen=True)
class EvaluatedCheckpoint(Part):
    """The checkpoint that was evaluated: its step, and the value that selected it."""

    step: int
    epoch: int
    value: float | None


# The fields that identify a score.
KEYS = ("stage", "unit", "over", "of", "metric", "convention")


@dataclass(frozen=True)
class Score(Part):
    """One number of an evaluation.

    Attributes:
      stage: 'pretrain' or 'segment'; 'regression' or 'mean' for a yardstick of the former.
      unit: 'slice' or 'patient'.
      over: the set of units, such as 'all slices' or 'volumes'.
      of: the class, region or part of the image.
      metric, convention: the metric, and its rule for empty masks or for the range.
      mean: over the units; None where undefined.
      count: of the units.
    """

    stage: str
    unit: str
    over: str
    of: str
    metric: str
    convention: str
    mean: float | None
    count: int

    @property
    def key(self) -> tuple[str, str, str, str, str, str]:
        """The values of KEYS."""
        return (self.stage, self.unit, self.over, self.of, self.metric, self.convention)


TEST_SET = "test"
CROSS_VALIDATION = "cross-validation"


@dataclass(frozen=True)
class Evaluation(SealedDocument):
    """evaluation.json: the scores of a fold on its test set.

    Attributes:
      fold: its number.
      set: 'test', the same for all folds, or 'cross-validation', where each fold has its own.
      slices: 'tumour' or 'all' of the test set.
      split_by: 'patient' or 'slice'.
      patients: evaluated.
      inputs, target: of the first stage; several targets with commas.
      pretext: what it learned.
      loss, ssl: of the segmentation.
      tolerance_mm: of the normalised surface Dice.
      checkpoints: by stage.
      rows: the scores.
      files: names within the fold's folder of the other files; empty in those of version 0.1.0.
      with_holes: patients whose volume lacks slices, left out of scores of volumes and all slices.
      left_out: test patients without the modalities that a stage needs, by stage.
      yardsticks: of the first stage: coefficients by yardstick, target and term.
      tta: whether predictions were averaged over flips.
    """

    SCHEMA: ClassVar[str] = "brats_jax.evaluation"
    # An evaluation of another version is made again: its numbers may mean something else.
    VERSION: ClassVar[int] = 3
    REMEDY: ClassVar[str] = REEVALUATE_HINT
    fold: int
    set: str
    slices: str
    split_by: str
    patients: int
    inputs: tuple[str, ...]
    target: str
    loss: str
    ssl: bool
    tolerance_mm: float
    checkpoints: dict[str, EvaluatedCheckpoint]
    rows: tuple[Score, ...]
    files: tuple[str, ...] = ()
    with_holes: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    yardsticks: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    pretext: str = "cross_modality"
    tta: bool = False


@dataclass(frozen=True)
class TallyHead(Document):
    """The array `head` of tally_STAGE.npz, as JSON text.

    Attributes:
      stage: 'pretrain' or 'segment'.
      facts: on the evaluation: fold, split, checkpoint.
    """

    SCHEMA: ClassVar[str] = "brats_jax.tally"
    VERSION: ClassVar[int] = 2
    REMEDY: ClassVar[str] = REEVALUATE_HINT
    stage: str
    facts: dict[str, Any]

    @classmethod
    def read(cls, arrays: Mapping[str, Any]) -> Self:
        """The head among the arrays of a tally.

        Raises:
          KeyError, ValueError: there is none, or it is of another version.
        """
        return cls.from_json(parse_json(str(arrays["head"]), allow_nan=True))


@dataclass(frozen=True)
class FoldsScore(Part):
    """One number over the folds; keys as of `Score`.

    Attributes:
      mean, sd_over_folds: None where undefined.
      folds: that have the number.
      count: the largest number of units of a fold.
      least_count: the smallest, over all folds; None where it is `count`.
      of_count: number of units of a fold, with those that the number leaves out.
      folds_without: folds that do not have the number.
    """

    stage: str
    unit: str
    over: str
    of: str
    metric: str
    convention: str
    mean: float | None
    sd_over_folds: float | None
    folds: int
    count: int
    least_count: int | None = None
    of_count: int | None = None
    folds_without: tuple[int, ...] = ()


@dataclass(frozen=True)
class Summary(SealedDocument):
    """summary.json: the scores over the folds of a run; fields as of `Evaluation`.

    In a cross-validation `patients`, and the numbers of units in `rows`, are sums over folds.
    """

    SCHEMA: ClassVar[str] = "brats_jax.summary"
    VERSION: ClassVar[int] = 2
    REMEDY: ClassVar[str] = "move it away, and give the command that trained again"
    folds: tuple[int, ...]
    of_folds: int
    set: str
    slices: str
    split_by: str
    patients: int
    loss: str
    ssl: bool
    inputs: tuple[str, ...]
    target: str
    rows: tuple[FoldsScore, ...]
    with_holes: int = 0
    pretext: str = "cross_modality"
    tta: bool = False


@dataclass(frozen=True)
class CalibrationScores(Part):
    """Negative log-likelihood and expected calibration error, over the brain and the tumour."""

    nll: float | None
    ece: float | None
    ece_tumour: float | None


@dataclass(frozen=True)
class CalibrationSet(Part):
    """Calibration of one set of a fold before and after temperature scaling."""

    patients: int
    slices: int
    pixels: int
    tumour_pixels: int
    before: CalibrationScores
    after: CalibrationScores


@dataclass(frozen=True)
class Calibration(SealedDocument):
    """calibration.json: the temperature of a fold's segmentation.

    Attributes:
      model: hash of the weights that it belongs to.
      temperature: divides the logits; above 0.
      over: the pixels, in words.
      fold, split_by: of the run.
      sets: by name, 'validation' and 'test'.
    """

    SCHEMA: ClassVar[str] = "brats_jax.calibration"
    model: str
    temperature: float
    over: str
    fold: int
    split_by: str
    sets: dict[str, CalibrationSet]
