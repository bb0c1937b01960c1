"""Whether the evaluation in a fold's folder is the one that this version would write now."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brats_jax.errors import BratsError
from brats_jax.runs.documents import Evaluation, TallyHead
from brats_jax.runs.folder import FoldFolder
from brats_jax.runtime.document import read_if_readable
from brats_jax.runtime.npz import open_npz

# Settings of an evaluation that change its numbers; evaluation.json repeats them.
EVALUATION_SETTINGS = ("slices", "tolerance_mm")


def is_current(fold: FoldFolder, steps: Mapping[str, int], **settings: Any) -> bool:
    """Whether a fold has an evaluation of this version, with its tallies.

    Args:
      fold: the fold's folder.
      steps: by stage, the step of the checkpoint that must have been evaluated.
      settings: the values that it must have been made with, of EVALUATION_SETTINGS.
    """
    evaluation = read_if_readable(fold.evaluation_json, Evaluation)
    if evaluation is None:
        return False
    evaluated = {stage: best.step for stage, best in evaluation.checkpoints.items()}
    return (
        all(getattr(evaluation, name) == value for name, value in settings.items())
        and all(evaluated.get(stage) == step for stage, step in steps.items())
        and all(has_tally(fold.tally(stage), stage) for stage in steps)
    )


def has_tally(path: Path, stage: str) -> bool:
    """Whether `path` holds a tally of this version and stage; reads its head only."""
    try:
        with open_npz(path, TallyHead.REMEDY) as arrays:
            return TallyHead.read(arrays).stage == stage
    except BratsError:
        return False
