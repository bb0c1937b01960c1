"""A folder with the weights of trained networks: its layout, and its config.json.

    FOLDER/config.json          what the networks are, and the hashes of the other files
    FOLDER/model.safetensors    the weights: TASK.fold_K.NAME, names as in `models.torch_weights`
    FOLDER/README.md            the card of the model, in the layout of a model hub only

TASK is 'segment' or 'reconstruct'; a folder may hold both.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from brats_jax import about
from brats_jax.runs.documents.cleaning import FittedSizes
from brats_jax.runs.documents.evaluation import FoldsScore
from brats_jax.runs.documents.stage import TrainingFacts
from brats_jax.runs.documents.subsets import SubsetMean
from brats_jax.runs.fold_part import FoldPart
from brats_jax.runtime.document import Part, SealedDescription, has_schema_of

READY = Path(about.__file__).parent / "weights"  # models of the package, in an installed one, too


@dataclass(frozen=True)
class WeightsFolder:
    """The folder of exported weights."""

    path: Path

    @property
    def config_json(self) -> Path:
        return self.path / "config.json"

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def card(self) -> Path:
        return self.path / "README.md"

    @property
    def ledger_json(self) -> Path:
        """The hashes of the files while they are being written."""
        return self.path / ".weights.writing.json"

    @property
    def exists(self) -> bool:
        """Whether weights were exported into this folder; a run has a config.json, too."""
        return has_schema_of(self.config_json, WeightsDocument)


@dataclass(frozen=True)
class SavedFold(FoldPart):
    """The network of one fold.

    Attributes:
      fold: its number.
      hash: of its weights as they are saved (`models.torch_weights.digest`).
      step, epoch, value: of the checkpoint; see `checkpoints.CheckpointMeta`.
      record: facts on the training data: normalisation and slice size among them.
      temperature: that `brats_jax.calibrate` fitted; None without.
      patients, slices, steps: trained on, and how long; None where the run does not say.
    """

    hash: str
    step: int
    epoch: int
    value: float | None
    record: TrainingFacts
    temperature: float | None = None
    patients: int | None = None
    slices: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class CardOptions(Part):
    """Texts of a model's card that no file of the run has.

    Attributes:
      license: its identifier, as model hubs spell it; '' for 'other', research use only.
      command: makes the model again.
      text: Markdown: terms of the data, failures that are known, and the like.
    """

    license: str = ""
    command: str = ""
    text: str = ""

    def over(self, earlier: Self) -> Self:
        """These texts; where they are empty, those of an earlier export."""
        return dataclasses.replace(
            earlier, **{name: text for name, text in vars(self).items() if text}
        )


@dataclass(frozen=True)
class StatedScores(Part):
    """The scores that the card of a model states.

    Attributes:
      trainings: that were evaluated, each alone.
      patients: in the test set of any of them.
      split_by: 'patient' or 'slice'.
      other_settings: names of the settings in which these trainings differ from the model's.
      rows: of a segmentation, scores of whole volumes by region and metric; of a synthesis, the
        image quality of slices.
      same_weights: whether the trainings are those of the model; otherwise others of its settings.
      tta: whether predictions were averaged over flips.
      planes: whose slices they were averaged over, as in config.evaluation.
      subsets: the 3D Dice from each subset of the modalities, and its mean; () if this was not
        evaluated, or if the networks were not trained for missing modalities.
    """

    trainings: int
    patients: int
    split_by: str
    other_settings: tuple[str, ...]
    rows: tuple[FoldsScore, ...]
    same_weights: bool = True
    tta: bool = False
    planes: str = ""
    subsets: tuple[SubsetMean, ...] = ()


@dataclass(frozen=True)
class SavedNetworks(Part):
    """The networks of one task, one for each fold.

    Attributes:
      model: see `tasks.Task.describe`.
      dtype: 'bfloat16' or 'float32', of the kernels; all other arrays are float32.
      hash: of the weights of all folds as they are saved.
      exported_from: the same before they were rounded.
      folds: at least one.
      config: the settings of the run, without paths and names.
      sources: kinds of the data sets.
      seen: hashes of the persons in the training and validation sets, see `seen_persons`.
      notes: warnings for the user, one line each.
      scores: on patients that the networks have not seen; None if nothing was evaluated.
      cleaning: sizes that labels are cleaned with, unless others are given; None: not cleaned.
      other_cleanings: sizes for other averages over flips and planes.
    """

    model: dict[str, Any]
    dtype: str
    hash: str
    exported_from: str
    folds: tuple[SavedFold, ...]
    config: dict[str, Any]
    sources: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    scores: StatedScores | None = None
    cleaning: FittedSizes | None = None
    other_cleanings: tuple[FittedSizes, ...] = ()

    @property
    def cleanings(self) -> tuple[FittedSizes, ...]:
        """The sizes for all averages."""
        return ((self.cleaning,) if self.cleaning else ()) + self.other_cleanings


@dataclass(frozen=True)
class WeightsDocument(SealedDescription):
    """config.json of a folder of exported weights.

    Attributes:
      library_name, model_type: for model hubs.
      research_use_only: the research notice.
      tasks: by 'segment' or 'reconstruct'.
      sha256: of the other files, by name.
      brats_jax: version of the program.
      name: of the model; '' for that of its folder.
      card: texts for the card.
    """

    SCHEMA: ClassVar[str] = "brats_jax.weights"
    VERSION_KEY: ClassVar[str] = "schema_version"
    REMEDY: ClassVar[str] = "copy the folder again, or export the run again into another folder"
    library_name: str
    model_type: str
    research_use_only: str
    tasks: dict[str, SavedNetworks]
    sha256: dict[str, str]
    brats_jax: str
    name: str = ""
    card: CardOptions = CardOptions()

    @property
    def weights_sha256(self) -> str:
        """The SHA-256 of the file of the weights; '' if the document lacks it."""
        return self.sha256.get(WeightsFolder(Path()).weights.name, "")

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the document.

        Raises:
          ValueError: as in `Sealed`; it has no SHA-256 of itself or no network; a temperature is
            not above 0.
        """
        parsed = super().from_json(document)
        if not parsed.document_sha256:
            raise ValueError(f"it lacks its SHA-256 ('{cls.SEAL}')")
        for networks in parsed.tasks.values():
            if not networks.folds:
                raise ValueError("'folds' is empty")
            for fold in networks.folds:
                if fold.temperature is not None and not fold.temperature > 0:
                    raise ValueError("'temperature' is not above 0")
        return parsed
