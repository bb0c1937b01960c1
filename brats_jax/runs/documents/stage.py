"""training.json and complete.json of a stage, and the facts that go with its checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from brats_jax.data.planes import AXIAL, PLANES
from brats_jax.runtime.document import Part, SealedDocument

_REMAKE_HINT = "give the command that trained again: it makes this file again"


@dataclass(frozen=True)
class StageTraining(SealedDocument):
    """training.json: the length of a stage and the data that it trains on.

    Attributes:
      patients, slices: how many the stage trains on.
      of_patients, of_slices: how many it could train on: the fold's training set; for a pretraining
        also the patients without labels.
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
