"""Which files a predicted case has: the options that choose them, and their names."""

import re
from dataclasses import dataclass
from pathlib import Path

from brats_jax.data.modalities import REGIONS
from brats_jax.inference.model import Model
from brats_jax.runs.folder import PredictionFolder

# The names of all files of a case, for `files.remove_stale`.
PREDICTED_NAMES = re.compile(
    r".+_(seg|entropy|prob_(WT|TC|ET)|(t1|t1gd|t2|flair)_(synthetic|error))\.(nii\.gz|json)"
    r"|.+_seg\.(png|html)|volumes\.csv"
)

# The fields of `OutputOptions` that each ask for files.
OPTIONAL_FILES = ("probabilities", "uncertainty", "picture", "page")


@dataclass(frozen=True)
class OutputOptions:
    """The files to write.

    Attributes:
      et_label: value of ET, 3 or 4.
      probabilities, uncertainty: maps beside the labels.
      picture, page: pictures of the case.
      overwrite: replace earlier predictions of this program.
    """

    et_label: int = 4
    probabilities: bool = False
    uncertainty: bool = False
    picture: bool = False
    page: bool = False
    overwrite: bool = False

    @property
    def needs_probabilities(self) -> bool:
        """Whether the files need more than the labels."""
        return self.probabilities or self.uncertainty


def names_by_option(case: str, model: Model, options: OutputOptions) -> dict[str, str]:
    """The names of a case's files by option, 'labels' first.

    'probabilities' has the name of the last of its three maps.
    """
    folder = PredictionFolder(Path())
    if not model.trained.segments:
        return {"labels": folder.synthetic(case, model.trained.targets[0]).name}
    paths = {
        "probabilities": folder.probability(case, list(REGIONS)[-1]),
        "uncertainty": folder.entropy(case),
        "picture": folder.picture(case),
        "page": folder.page(case),
    }
    chosen = {option: path.name for option, path in paths.items() if getattr(options, option)}
    return {"labels": folder.segmentation(case).name, **chosen}


def sidecar_path(directory: Path, case: str, model: Model) -> Path:
    """The path of the JSON file that describes the prediction of a case."""
    folder = PredictionFolder(directory)
    if model.trained.segments:
        return folder.segmentation_json(case)
    return folder.synthetic_json(case, model.trained.targets[0])
