"""Folders with trained folds whose config.json is gone."""

from pathlib import Path

from brats_jax.errors import BratsError
from brats_jax.runs.folder import STAGES, RunFolder, fold_number

_DEPTH = 3  # as in `find_runs`


def check_config_exists(path: Path) -> None:
    """Refuses a folder with trained folds but without config.json: nothing tells their settings.

    Raises:
      BratsError: names the missing file.
    """
    run = RunFolder(path)
    if not run.exists and any(
        file.is_file()
        for fold in run.folds()
        for stage in STAGES
        for file in fold.stage(stage).path.rglob("*")
    ):
        raise BratsError(
            f"{run.config_json} is missing, but there are trained folds beside it: copy it "
            "back, or give another --workdir"
        )


def missing_config_notes(folder: Path) -> list[str]:
    """A line for each folder of trained folds, here or below, whose config.json is gone."""
    lines = []
    found = (f for depth in range(_DEPTH + 1) for f in folder.glob(f"{'*/' * depth}fold_*"))
    parents = {fold.parent for fold in found if fold_number(fold.name) is not None}
    for path in sorted(parents):
        try:
            check_config_exists(path)
        except BratsError as error:
            lines.append(str(error))
    return lines
