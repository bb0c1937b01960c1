"""Opens a model by a path or a name: a run, a fold of it, exported weights, or a ready model."""

import os
from pathlib import Path

from jax.sharding import Mesh

from brats_jax.inference import model_paths
from brats_jax.inference.trained_run import TrainedRun, open_run
from brats_jax.inference.weights_reader import open_weights


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
    model_paths.check_exists(path)
    if weights := model_paths.weights_at(path):
        return open_weights(weights.path, task_name, mesh, calibrated=calibrated, dtype=dtype)
    return open_run(Path(path), task_name, mesh, calibrated=calibrated, dtype=dtype)
