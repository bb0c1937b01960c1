"""Whether the evaluation in a fold's folder is the one that this version would write now."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brats_jax.errors import BratsError
from brats_jax.runs.documents import Evaluation, TallyHead
from brats_jax.runs.folder import FoldFolder
from brats_jax.runtime.document import read_if_readable
from brats_jax.runtime.npz import open_npz
from brats_jax.runtime.own_files import OwnFiles
from brats_jax.runtime.whole_files import is_whole

# Settings of an evaluation that change its numbers; evaluation.json repeats them.
EVALUATION_SETTINGS = ("slices", "tolerance_mm", "tta", "planes")


def is_current(
    fold: FoldFolder, steps: Mapping[str, int], *, panels: bool = False, **settings: Any
) -> bool:
    """Whether a fold has an evaluation of this version, with all its files.

    Args:
      fold: the fold's folder.
      steps: by stage, the step of the checkpoint that must have been evaluated.
      panels: whether an evaluation that does not list its files (of version 0.1.0) must have panels
        beside its tables.
      settings: the values that it must have been made with, of EVALUATION_SETTINGS.
    """
    evaluation = read_if_readable(fold.evaluation_json, Evaluation)
    if evaluation is None:
        return False
    evaluated = {stage: best.step for stage, best in evaluation.checkpoints.items()}
    files = evaluation.files or _unlisted(fold, evaluation, panels)
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
    """Whether a file exists, is not empty, and was not cut short; arrays have their checksums."""
    if not path.is_file() or not path.stat().st_size or not is_whole(path):
        return False
    return path.suffix != ".npz" or _stage_of_arrays(path, _state_of(path)) is not None


def edited_files(fold: FoldFolder) -> list[Path]:
    """The tables and pictures of an evaluation that have changed since they were written."""
    evaluation = read_if_readable(fold.evaluation_json, Evaluation)
    own = OwnFiles(fold.path, fold.ledger_json)
    names = [name for name in (evaluation.files if evaluation else ()) if own.knows(name)]
    return [fold.path / name for name in names if not own.is_as_written(name)]


def has_tally(path: Path, stage: str) -> bool:
    """Whether `path` holds a whole tally of this version and stage."""
    return path.is_file() and _stage_of_arrays(path, _state_of(path)) == stage


def _state_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


# A grid asks again and again. Its cells have two such files each.
@functools.lru_cache(4096)
def _stage_of_arrays(path: Path, state: tuple[int, int]) -> str | None:
    """The stage of a tally, '' for other arrays; None for a damaged file or another version.

    Args:
      path: the .npz.
      state: changes with the file.
    """
    try:
        with open_npz(path, TallyHead.REMEDY) as arrays:
            for name in arrays:
                arrays[name]  # compares its checksum
            return TallyHead.read(arrays).stage if "head" in arrays else ""
    except BratsError:
        return None
