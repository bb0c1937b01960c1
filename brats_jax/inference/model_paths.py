"""What is at the path or name of a model, found without importing JAX."""

import contextlib
import difflib
import itertools
import os
from pathlib import Path

from brats_jax.data.folds import fold_title
from brats_jax.errors import BratsError
from brats_jax.runs.documents.weights import READY, WeightsFolder
from brats_jax.runs.export_folder import PROGRAMS, ExportFolder
from brats_jax.runs.folder import STAGE_OF_TASK, RunFolder, checkpoint_steps, find_runs, locate_fold
from brats_jax.runs.missing_config import check_config_exists
from brats_jax.runtime.text import joined

_NAMED = 5  # runs below a folder


def split(path: str | os.PathLike[str]) -> list[str]:
    """The paths or names of the models that are averaged: those between commas."""
    names = [name for name in os.fspath(path).split(",") if name]
    if not names or Path(path).exists():  # a path may have a comma in its name
        return [os.fspath(path)]
    return names


def ready_models() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(path.name for path in READY.glob("*") if WeightsFolder(path).exists)


def weights_at(path: str | os.PathLike[str]) -> WeightsFolder | None:
    """The exported weights at a path; where no run is either, the ready model of this name."""
    found = Path(path)
    if WeightsFolder(found).exists:
        return WeightsFolder(found)
    if locate_fold(found) is None and os.fspath(path) in ready_models():
        return WeightsFolder(READY / found)
    return None


def check_exists(path: str | os.PathLike[str]) -> None:
    """Refuses a path or name at which there is no model (BratsError)."""
    found, name = Path(path), os.fspath(path)
    located = locate_fold(found)
    if located is not None:
        _check_fold(*located)
        return
    if weights_at(path):
        return
    check_config_exists(found)
    check_config_exists(found.parent)
    if not (found / WeightsFolder(found).config_json.name).exists() and (
        WeightsFolder(found).weights.exists()
    ):
        raise BratsError(
            f"{WeightsFolder(found).config_json} is missing, but there are weights beside it: copy "
            "it there, or export the run again"
        )
    if programs := _programs(found):
        raise BratsError(
            f"'{name}' holds exported programs ({joined(programs)}), which run without this "
            "package: give the run, or an export of it with --format=weights"
        )
    if "," in name:
        raise BratsError(
            f"'{name}': no run there; only predict and brats_jax.load average several "
            "runs, with commas between them: give one"
        )
    if meant := difflib.get_close_matches(name.lower(), ready_models(), 1):
        raise BratsError(f"'{name}': no run there; did you mean '{meant[0]}', the ready model?")
    if below := _runs_below(found):
        raise BratsError(f"'{name}': no run there, but in it: give {joined(below, 'or')}")
    ready = ", ".join(ready_models())
    raise BratsError(
        f"'{name}': no run there ({_what_is_at(found)}), and no exported weights; give the "
        "--workdir of a training, RUN/fold_K, the folder of an export, or "
        + (
            f"a ready model: {ready}"
            if ready
            else "train one: this installation has no ready models"
        )
    )


def _check_fold(run: RunFolder, number: int | None) -> None:
    """Refuses a fold that a run does not have, and names those that segment (BratsError).

    Where none does, the missing checkpoint is refused later.
    """
    if number is None or run.fold(number).path.exists():
        return
    trained = [
        str(fold.path) for fold in run.folds() if checkpoint_steps(fold.stage("segment").best)
    ]
    if trained:
        raise BratsError(f"{run.path} has no {fold_title(number)}: give {joined(trained, 'or')}")


def _what_is_at(path: Path) -> str:
    """What there is at a path without a model."""
    if path.is_dir():
        return "the folder holds no run"
    return "it is a file" if path.exists() else "there is no such folder"


def _programs(folder: Path) -> list[str]:
    """The names of the exported programs in a folder."""
    made = (ExportFolder(folder, kind).program(task) for kind in PROGRAMS for task in STAGE_OF_TASK)
    return [path.name for path in made if path.is_file()]


def _runs_below(folder: Path) -> list[str]:
    """The first runs in a folder; none where it cannot be read."""
    with contextlib.suppress(OSError):
        return [str(run.path) for run in itertools.islice(find_runs(folder, depth=2), _NAMED)]
    return []
