"""Opens a model by a path or a name: a run, a fold of it, exported weights, or a ready model."""

import contextlib
import difflib
import itertools
import os
from pathlib import Path

from jax.sharding import Mesh

from brats_jax.errors import BratsError
from brats_jax.inference.trained_run import TrainedRun, open_run
from brats_jax.inference.weights_reader import open_weights
from brats_jax.runs.documents.weights import READY, WeightsFolder
from brats_jax.runs.folder import find_runs, locate_fold
from brats_jax.runs.missing_config import check_config_exists
from brats_jax.runtime.text import joined

_NAMED = 5  # runs below a folder


def ready_models() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(path.name for path in READY.glob("*") if WeightsFolder(path).exists)


def open_model(
    path: str | os.PathLike[str],
    task_name: str,
    mesh: Mesh,
    *,
    calibrated: bool = False,
    dtype: str | None = None,
) -> TrainedRun:
    """Restores the networks of one task.

    Args:
      path: RUN for all its complete folds, RUN/fold_K for one, the folder of exported weights, or
        the name of a ready model. A run or weights at this path win over a ready model of its name.
      task_name, mesh, calibrated, dtype: as in `trained_run.open_run`.

    Raises:
      BratsError: there is no model at the path or of this name, or it cannot be used.
    """
    found = Path(path)
    if WeightsFolder(found).exists:
        return open_weights(found, task_name, mesh, calibrated=calibrated, dtype=dtype)
    if locate_fold(found) is not None:
        return open_run(found, task_name, mesh, calibrated=calibrated, dtype=dtype)
    name = os.fspath(path)
    if name in ready_models():
        return open_weights(READY / name, task_name, mesh, calibrated=calibrated, dtype=dtype)
    check_config_exists(found)
    check_config_exists(found.parent)
    if not (found / WeightsFolder(found).config_json.name).exists() and (
        WeightsFolder(found).weights.exists()
    ):
        raise BratsError(
            f"{WeightsFolder(found).config_json} is missing, but there are weights beside it: copy "
            "it there, or export the run again"
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


def _what_is_at(path: Path) -> str:
    """What there is at a path without a model."""
    if path.is_dir():
        return "the folder holds no run"
    return "it is a file" if path.exists() else "there is no such folder"


def _runs_below(folder: Path) -> list[str]:
    """The first runs in a folder; none where it cannot be read."""
    with contextlib.suppress(OSError):
        return [str(run.path) for run in itertools.islice(find_runs(folder, depth=2), _NAMED)]
    return []
