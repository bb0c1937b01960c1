"""The sidecar of a predicted case: the model, its settings, and the files that are whole.

A sidecar is written after the files that it names.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from brats_jax.runs.documents import TrainingFacts
from brats_jax.runs.fold_part import FoldPart
from brats_jax.runtime.document import Part, SealedDescription

# Files are written before their sidecar; some file systems round times to 2 s.
LATER_S = 2.0


@dataclass(frozen=True)
class FoldModel(FoldPart):
    """The model of one fold: the hash of its weights, its step, and its temperature."""

    hash: str
    step: int
    temperature: float


@dataclass(frozen=True)
class ModelFacts(Part):
    """The identity of a model.

    Attributes:
      hash: of the weights of all folds.
      run: the name of the run folder, or of exported weights; the whole path before version 0.2.
      folds: the members of the ensemble.
      record: facts on the training data.
      config: the settings of the run, as JSON has them.
      weights: SHA-256 of the file of exported weights; '' for a run.
      others: further runs in the average.
    """

    hash: str
    run: str
    folds: tuple[FoldModel, ...]
    record: TrainingFacts
    config: dict[str, Any]
    weights: str = ""
    others: tuple["ModelFacts", ...] = ()


@dataclass(frozen=True)
class Averaged(Part):
    """The predictions that are averaged.

    Attributes:
      folds: the number of folds, of all runs together.
      flips: the number of flips that each fold predicts.
      planes: the planes of each run in turn, if planes were chosen; (): each run predicts in one.
      predictions: the number of predictions, if planes were chosen; else it is folds * flips.
    """

    folds: int
    flips: int
    planes: tuple[str, ...] = ()
    predictions: int = 0

    @property
    def count(self) -> int:
        """The number of predictions."""
        return self.predictions or self.folds * self.flips


@dataclass(frozen=True)
class VolumeRange(Part):
    """A volume in ml, and its range over the averaged predictions (None: only one)."""

    ml: float
    low_ml: float | None
    high_ml: float | None


@dataclass(frozen=True)
class Sidecar(SealedDescription):
    """The sidecar of any prediction.

    Attributes:
      case: its name.
      use: the research notice.
      program, version: 'brats_jax' and its version.
      model: which, and how trained.
      averaged, min_component_mm3, min_et_mm3, clear_air: how it was applied.
      fitted: the names of those settings of the cleaning that come from a fit on patients.
      made: date and time.
      inputs: the names of the input files by modality.
      notes: warnings, one line each.
      missing: inputs of the model that the case lacks, and that it did without.
      synthetic: inputs that the case lacks, and that the network of this hash filled in.
    """

    SCHEMA: ClassVar[str] = "brats_jax.prediction"
    VERSION_KEY: ClassVar[str] = "schema_version"  # `version` is the program's
    REMEDY: ClassVar[str] = "predict the case again with --overwrite"
    case: str
    use: str
    program: str
    version: str
    model: ModelFacts
    averaged: Averaged
    min_component_mm3: float
    min_et_mm3: float
    made: str
    inputs: dict[str, str]
    notes: tuple[str, ...]
    clear_air: bool = field(default=False, kw_only=True)
    fitted: tuple[str, ...] = field(default=(), kw_only=True)
    missing: tuple[str, ...] = field(default=(), kw_only=True)
    synthetic: dict[str, str] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class SegmentationSidecar(Sidecar):
    """The sidecar of a segmentation.

    Attributes:
      labels: classes by the value in the file.
      entropy_unit, volumes_ml: of a case predicted by the command; None otherwise.
      files: the size in bytes of every file of the case.
      sha256: their hashes; versions before 0.2 wrote none.
    """

    labels: dict[str, str]
    entropy_unit: str | None = None
    volumes_ml: dict[str, VolumeRange] | None = None
    files: dict[str, int] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SyntheticSidecar(Sidecar):
    """The sidecar of a synthetic modality.

    Attributes:
      target: the modality.
      unit: of its values, in words.
      mse_brain: mean squared error over the brain; None without the real modality.
      files: the size in bytes of every file of the case.
      sha256: their hashes; versions before 0.2 wrote none.
    """

    target: str
    unit: str
    mse_brain: float | None
    files: dict[str, int] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentationOutputSidecar(SegmentationSidecar):
    """The sidecar of a file that `Model.segment` wrote."""

    SCHEMA: ClassVar[str] = "brats_jax.output"


@dataclass(frozen=True)
class SyntheticOutputSidecar(SyntheticSidecar):
    """The sidecar of a file that `Model.reconstruct` wrote."""

    SCHEMA: ClassVar[str] = "brats_jax.output"


def missing_files(directory: Path, files: dict[str, int]) -> list[str]:
    """The files of a sidecar that are not there, or not of the size that it states."""
    return [name for name, size in files.items() if not _has_size(directory / name, size)]


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False
