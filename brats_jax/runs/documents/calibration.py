"""calibration.json of a fold: its temperature, and the calibration before and after."""

from dataclasses import dataclass
from typing import ClassVar

from brats_jax.runtime.document import Part, SealedDocument


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
