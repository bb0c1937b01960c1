"""The settings that are read after training, of a run of any version."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from brats_jax.data.folds import ALL, with_fold_numbers
from brats_jax.runtime.document import Part


@dataclass(frozen=True)
class RecordedModel(Part):
    """config.model of a run of any version."""

    width: int | None = None


@dataclass(frozen=True)
class RecordedData(Part):
    """config.data of a run of any version."""

    store: str = ""
    split_by: str = "patient"
    label_fraction: float = 1.0
    label_patients: int = 0
    selection: str = "validation"


@dataclass(frozen=True)
class RecordedPretraining(Part):
    """config.pretrain of a run of any version."""

    inputs: tuple[str, ...] = ()
    target: str = ""
    task: str = "cross_modality"
    decoder: str = "transposed"


@dataclass(frozen=True)
class RecordedEvaluation(Part):
    """config.evaluation of a run of any version."""

    tta: bool = False
    planes: str = ""


@dataclass(frozen=True)
class RecordedSettings(Part):
    """The settings that are read after training, of a run of any version.

    Attributes: as in configs/base.py; a default is the meaning of a missing setting.
    """

    seed: int = 0
    folds: tuple[int, ...] = ()
    ssl: bool = False
    loss: str = ""
    dtype: str = ""
    model: RecordedModel = RecordedModel()
    data: RecordedData = RecordedData()
    pretrain: RecordedPretraining = RecordedPretraining()
    evaluation: RecordedEvaluation = RecordedEvaluation()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the settings; raises as `Part.from_json`."""
        return super().from_json(with_fold_numbers(document))

    @property
    def trains_on_all(self) -> bool:
        """Whether all patients train (config.folds=all): no validation set, no test set."""
        return self.folds == (ALL,)
