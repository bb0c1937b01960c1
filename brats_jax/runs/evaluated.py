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


def is_current(
    fold: FoldFolder, steps: Mapping[str, int], *, panels: bool | None = None, **settings: Any
) -> bool:
    """Whether a fold has an evaluation of this version, with all its files.

    Args:
      fold: the fold's folder.
      steps: by stage, the step of the checkpoint that must have been evaluated.
      panels: whether an evaluation that does not list its files (of version 0.1.0) must have panels
        and tables, or tables alone; None: its tallies are enough.
      settings: the values that it must have been made with, of EVALUATION_SETTINGS.
    """
    evaluation = read_if_readable(fold.evaluation_json, Evaluation)
    if evaluation is None:
        return False
    evaluated = {stage: best.step for stage, best in evaluation.checkpoints.items()}
    files = evaluation.files
    if not files and panels is not None:
        files = _unlisted(fold, evaluation, panels)
    return (
        all(getattr(evaluation, name) == value for name, value in settings.items())
        and all(evaluated.get(stage) == step for stage, step in steps.items())
        and all(has_tally(fold.tally(stage), stage) for stage in steps)
        and all(is_there(fold.path / name) for name in files)
    )


def files_of(fold: FoldFolder, stage: str, *, volumes: bool, panels: bool) -> tuple[str, ...]:
    """Names, within the fold's folder, of the files of a stage's evaluation.

    Args:
      fold: the fold's folder.
      stage: 'pretrain' or 'segment'.
      volumes: whether volumes were scored.
      panels: whether panels were drawn.
    """
    paths = [fold.tally(stage), fold.slices_csv(stage)]
    if volumes:
        paths.append(fold.patients_csv(stage))
    if panels and stage == "pretrain":
        paths.append(fold.reconstruction_png)
    elif panels:
        paths += [fold.segmentation_png, fold.segmentation_npz]
    return tuple(path.relative_to(fold.path).as_posix() for path in paths)


def _unlisted(fold: FoldFolder, evaluation: Evaluation, panels: bool) -> tuple[str, ...]:
    """The files of an evaluation of version 0.1.0, from its rows."""
    names: list[str] = []
    for stage in evaluation.checkpoints:
        rows = [row for row in evaluation.rows if row.stage == stage]
        volumes = any(row.over == "volumes" and row.count > 0 for row in rows)
        if rows:
            names += files_of(fold, stage, volumes=volumes, panels=panels)
    return tuple(names)


def is_there(path: Path) -> bool:
    """Whether a file exists and is not empty."""
    return path.is_file() and path.stat().st_size > 0


def has_tally(path: Path, stage: str) -> bool:
    """Whether `path` holds a tally of this version and stage; reads its head only."""
    try:
        with open_npz(path, TallyHead.REMEDY) as arrays:
            return TallyHead.read(arrays).stage == stage
    except BratsError:
        return False
