"""cleaning.json of a run: sizes of the cleaning of labels that were fitted on held-out patients.

Another average over flips and planes has a file of its own: see `RunFolder.cleaning_of`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from brats_jax.runs.fold_part import FoldPart
from brats_jax.runtime.document import Part, SealedDocument

# ET in a case without any counts as an invention above this volume.
INVENTED_ET_ML = 0.2


@dataclass(frozen=True)
class CleanedScores(Part):
    """Scores of whole volumes, by the region WT, TC and ET.

    Attributes:
      dice: mean 3D Dice; empty regions count as in BraTS 2020.
      hd95_mm: median 95th percentile of the Hausdorff distance, in mm; empty regions as above.
      invented_et: predictions with more than `INVENTED_ET_ML` of ET for cases without ET; None: not
        counted.
    """

    dice: dict[str, float]
    hd95_mm: dict[str, float]
    invented_et: int | None = None


@dataclass(frozen=True)
class FittedSizes(Part):
    """The sizes of `inference.postprocess.Cleaning`, and the scores without and with them.

    Attributes:
      min_component_mm3, min_et_mm3: the sizes.
      patients: that they were fitted on; each predicted by networks that were not trained on it.
      measured_on: 'test', patients who had no part in the fit, mean over the trainings; or
        'cross-validation', each patient with the sizes fitted on those of the other folds.
      measured_patients: the scored ones.
      trainings: that were scored, each alone.
      without_et: predictions, over all trainings, of scored patients without ET.
      before, after: the scores without and with cleaning.
      tta: whether predictions were averaged over flips.
      planes: whose slices they were averaged over, as in config.evaluation.
      same_weights: of exported weights, whether the trainings are those of the model; otherwise
        others of its settings.
      clear_air: whether tumour in air is removed before. Fits of earlier versions did not.
      scores_keep_air: whether `after` is of labels with their tumour in air, though it is removed.
    """

    min_component_mm3: float
    min_et_mm3: float
    patients: int
    measured_on: str
    measured_patients: int
    trainings: int
    without_et: int
    before: CleanedScores
    after: CleanedScores
    tta: bool = False
    planes: str = ""
    same_weights: bool = True
    clear_air: bool = False
    scores_keep_air: bool = False

    @property
    def lowers_dice(self) -> bool:
        """Whether there are sizes, and the scored patients have a lower mean Dice with them."""
        change = (self.after.dice[region] - self.before.dice[region] for region in self.before.dice)
        return max(self.min_component_mm3, self.min_et_mm3) > 0 and math.fsum(change) < 0

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parses the object.

        Raises:
          ValueError: as in `Part`; a size is negative or not finite; a score is missing.
        """
        parsed = super().from_json(document)
        for name in ("min_component_mm3", "min_et_mm3"):
            size = getattr(parsed, name)
            if not (math.isfinite(size) and size >= 0):
                raise ValueError(f"'{name}' is {size}, not a size")
        names = [{*s.dice} for s in (parsed.before, parsed.after)]
        names += [{*s.hd95_mm} for s in (parsed.before, parsed.after)]
        if any(one != names[0] for one in names):
            raise ValueError("'before' and 'after' have other regions")
        return parsed


@dataclass(frozen=True)
class CleanedFold(FoldPart):
    """A network whose predictions were used.

    Attributes:
      hash, step: of its weights, and of its checkpoint.
      min_component_mm3, min_et_mm3: of a cross-validation: the sizes that the fold's own patients
        were scored with.
    """

    hash: str
    step: int
    min_component_mm3: float | None = None
    min_et_mm3: float | None = None


@dataclass(frozen=True)
class FittedCleaning(SealedDocument):
    """cleaning.json: the fitted sizes, and the networks that they belong to."""

    SCHEMA: ClassVar[str] = "brats_jax.cleaning"
    REMEDY: ClassVar[str] = "move it away, and run python -m brats_jax.calibrate --cleaning again"
    folds: tuple[CleanedFold, ...]
    fitted: FittedSizes

    def belongs_to(self, hashes: Iterable[str]) -> bool:
        """Whether the sizes were fitted to the predictions of all networks with these hashes."""
        return {*hashes} <= {fold.hash for fold in self.folds}
