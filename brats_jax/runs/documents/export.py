"""TASK.json of an exported model: its inputs, outputs, folds and versions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from brats_jax.runs.documents.stage import TrainingFacts
from brats_jax.runtime.document import Part, SealedDescription


@dataclass(frozen=True)
class ExportedInput(Part):
    """The array that the program takes.

    Attributes:
      name, dtype: of the array.
      shape: 'n' for any number of slices, height, width and modalities.
      modalities: the last axis, in order.
      used: the modalities that the network reads.
      intensities: their unit and their pixels, in words.
    """

    name: str
    dtype: str
    shape: tuple[Any, ...]
    modalities: tuple[str, ...]
    used: tuple[str, ...]
    intensities: str


@dataclass(frozen=True)
class ExportedOutput(Part):
    """The array that the program returns; `unit` is empty for labels."""

    name: str
    dtype: str
    shape: tuple[Any, ...]
    unit: str = ""


@dataclass(frozen=True)
class ExportedFold(Part):
    """The network of one fold.

    Attributes:
      name: of the fold's folder.
      weights, sha256: the file of its weights, and its hash.
      hash: of the weights themselves, as predictions state it.
      step, epoch, value: of the checkpoint; see `CheckpointMeta`.
      record: facts on the training data; the file has them beside the other fields.
    """

    name: str
    weights: str
    sha256: str
    hash: str
    step: int
    epoch: int
    value: float | None
    record: TrainingFacts = field(default_factory=TrainingFacts)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the object; raises as `Part.from_json`."""
        return super().from_json({**document, "record": document})

    def to_json(self) -> dict[str, Any]:
        """The object as it stands in the file."""
        fields = super().to_json()
        record = fields.pop("record", {})
        return {**fields, **record}


@dataclass(frozen=True)
class ExportedModel(Part):
    """The networks of an exported model.

    Attributes:
      task, inputs, outputs, width, pretext, decoder, context, slope, modality_dropout, fusion,
        fusion_weights: see `tasks.Task.describe`.
      decision: how `outputs` become labels, in words; '' for the largest of the classes.
      hash: of the weights of all folds.
      compute_dtype: the compute type of the program.
      ensemble: how several folds become one result, in words; None for one fold.
      folds: its members.
    """

    task: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    width: int
    hash: str
    compute_dtype: str
    ensemble: str | None
    folds: tuple[ExportedFold, ...]
    pretext: str = "cross_modality"
    decoder: str = "transposed"
    decision: str = ""
    context: int = 0
    slope: float = 0.0
    modality_dropout: float = 0.0
    fusion: str = "early"
    fusion_weights: str = "shared"


@dataclass(frozen=True)
class ExportDocument(SealedDescription):
    """TASK.json of an export folder.

    Attributes:
      research_use_only: the research notice.
      inputs, outputs: of the program.
      orientation: of its slices, in words.
      labels: classes by value; None for a synthetic modality.
      normalisation: one of `data.normalise.NORMALISATIONS`.
      normalisation_note: the same in words.
      platforms: that the program runs on.
      model: its networks.
      config: the settings of the run, as JSON has them.
      versions: of the packages that exported it.
      sha256: of the file of the program; '' in exports of version 0.1.0.
    """

    SCHEMA: ClassVar[str] = "brats_jax.exported"
    VERSION: ClassVar[int] = 2
    REMEDY: ClassVar[str] = "export the run again, into another folder"
    research_use_only: str
    inputs: tuple[ExportedInput, ...]
    outputs: tuple[ExportedOutput, ...]
    orientation: str
    labels: dict[str, str] | None
    normalisation: str
    normalisation_note: str
    platforms: tuple[str, ...]
    model: ExportedModel
    config: dict[str, Any]
    versions: dict[str, str]
    sha256: str = ""
