"""evaluation.json of a fold and summary.json of a run: their scores; and the head of a tally."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from brats_jax.runtime.document import Document, Part, SealedDocument
from brats_jax.runtime.json_text import parse_json

REEVALUATE_HINT = "give the command that trained again: it evaluates again without training"


@dataclass(frozen=True)
class EvaluatedCheckpoint(Part):
    """The checkpoint that was evaluated: its step, and the value that selected it."""

    step: int
    epoch: int
    value: float | None


# The fields that identify a score.
SCORE_KEYS = ("stage", "unit", "over", "of", "metric", "convention")


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
        """The values of SCORE_KEYS."""
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
      planes: whose slices they were averaged over, as in config.evaluation.
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
    planes: str = ""


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
    """One number over the folds; keys as in `Score`.

    Attributes:
      mean, sd_over_folds: None where undefined.
      folds: how many folds have the number.
      count: the number of units in the mean: of the fold with most; in a cross-validation the sum.
      least_count: that of the fold with least; None where it equals `count`, and in a
        cross-validation.
      of_count: as `count`, but with the units that the convention leaves out.
      folds_without: numbers of the folds that do not have the number.
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
    """summary.json: the scores over the folds of a run; fields as in `Evaluation`.

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
    planes: str = ""
