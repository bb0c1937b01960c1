"""The state that a stage of an earlier call left: complete, to be continued, or damaged."""

from pathlib import Path

from brats_jax.errors import BratsError
from brats_jax.runs.documents import StageResult, StageTraining
from brats_jax.runs.folder import StageFolder, checkpoint_steps
from brats_jax.runtime.console import print_line
from brats_jax.runtime.document import read_if_there


def needs_no_training(folder: StageFolder) -> bool:
    """Whether a stage is complete; if not, its training begins or goes on from `last`.

    Raises:
      BratsError: complete.json is there, but no checkpoint: training anew must be asked for.
    """
    best, last = (bool(checkpoint_steps(path)) for path in (folder.best, folder.last))
    if folder.is_complete and best:
        return True
    if folder.complete_json.exists() and not last:
        state = "is there" if folder.is_complete else "cannot be read"
        raise BratsError(
            f"{folder.complete_json} {state}, but {folder.last} holds no checkpoint to go on from: "
            f"copy it back, or remove {folder.complete_json} and give the same command again, "
            "which trains this stage from its beginning"
        )
    return False


def note_if_damaged(path: Path, kind: type[StageTraining | StageResult], title: str) -> None:
    """Prints a line on a document that cannot be read, before it is made again."""
    try:
        read_if_there(path, kind)
    except BratsError as error:
        why = str(error).removesuffix(kind.REMEDY).rstrip(":; ")
        print_line(f"{title}: {why}: made again")
