"""The files of an evaluation with missing modalities: of a fold, and over the folds of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from brats_jax.runs.documents.evaluation import REEVALUATE_HINT, EvaluatedCheckpoint
from brats_jax.runtime.document import Part, SealedDocument


@dataclass(frozen=True)
class SubsetFiles:
    """The files of an evaluation with missing modalities, in the folder of a fold or of a run."""

    folder: Path

    @property
    def json(self) -> Path:
        """A `SubsetEvaluation` of a fold, a `SubsetSummary` of a run."""
        return self.folder / "subsets.json"

    @property
    def csv(self) -> Path:
        """The same as a table."""
        return self.folder / "subsets.csv"


@dataclass(frozen=True)
class SubsetCounts(Part):
    """The predictions from one subset of the modalities.

    Attributes:
      modalities: those that the network was given.
      counts: by region, for each patient (tp, fp, fn) in voxels.
    """

    modalities: tuple[str, ...]
    counts: dict[str, tuple[tuple[int, ...], ...]]


@dataclass(frozen=True)
class SubsetEvaluation(SealedDocument):
    """subsets.json of a fold: its segmentation on the test set, from every subset of the inputs.

    It is written after every subset: a command that was stopped goes on with the next one.

    Attributes:
      fold, set, split_by, tta, planes: as in `Evaluation`.
      inputs: of the segmentation.
      trained_for_missing: whether the network was trained for missing modalities; otherwise their
        channels are filled with zeros, which it has not seen.
      checkpoint: the one that was evaluated.
      patients: with all inputs and all slices, in the order of the counts.
      left_out: test patients who lack an input or slices.
      subsets: evaluated so far.
    """

    SCHEMA: ClassVar[str] = "brats_jax.subsets"
    REMEDY: ClassVar[str] = REEVALUATE_HINT
    fold: int
    set: str
    split_by: str
    inputs: tuple[str, ...]
    trained_for_missing: bool
    checkpoint: EvaluatedCheckpoint
    tta: bool
    patients: tuple[str, ...]
    left_out: int = 0
    subsets: tuple[SubsetCounts, ...] = ()
    planes: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether all 2^n - 1 subsets of the inputs are there."""
        return len(self.subsets) == 2 ** len(self.inputs) - 1

    def same_as(self, other: "SubsetEvaluation") -> bool:
        """Whether the subsets of two documents may stand in one."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in (
                "fold", "set", "split_by", "inputs", "trained_for_missing", "checkpoint", "tta",
                "planes", "patients",
            )
        )  # fmt: skip


@dataclass(frozen=True)
class SubsetMean(Part):
    """The 3D Dice of one region from one subset, or its mean over the subsets.

    Attributes:
      modalities: the subset; () for the mean over all subsets.
      of: the region.
      mean, sd_over_folds: as in `FoldsScore`.
      drop: the mean from all inputs minus this mean.
      folds, patients: in the mean.
    """

    modalities: tuple[str, ...]
    of: str
    mean: float | None
    sd_over_folds: float | None
    drop: float | None
    folds: int
    patients: int


@dataclass(frozen=True)
class SubsetSummary(SealedDocument):
    """subsets.json of a run: means over its folds, in the order in which tables print the subsets.

    Attributes: as in `SubsetEvaluation`, and
      convention: of the Dice.
      rows: the numbers.
    """

    SCHEMA: ClassVar[str] = "brats_jax.subset_summary"
    REMEDY: ClassVar[str] = REEVALUATE_HINT
    folds: tuple[int, ...]
    set: str
    split_by: str
    inputs: tuple[str, ...]
    trained_for_missing: bool
    tta: bool
    convention: str
    rows: tuple[SubsetMean, ...]
    planes: str = ""
