"""Checkpoints on disk: a state pytree and a JSON description; the only file that imports Orbax."""

import contextlib
import dataclasses
import errno
import inspect
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax

from brats_jax.errors import BratsError
from brats_jax.runs import digests
from brats_jax.runs.documents import TrainingFacts
from brats_jax.runs.folder import StageFolder, checkpoint_steps
from brats_jax.runtime.document import Document
from brats_jax.runtime.failures import is_out_of_memory

# Imported where it is used: a prediction from exported weights needs no checkpoint.
if TYPE_CHECKING:
    import orbax.checkpoint as ocp


def __getattr__(name: str) -> Any:
    if name == "ocp":
        import orbax.checkpoint as ocp

        return ocp
    raise AttributeError(f"module 'brats_jax.runs.checkpoints' has no attribute '{name}'")


# Keys of `CheckpointMeta.sha256` beside the parts of the state.
_META = "meta"  # the description itself
SPLITS = "splits"  # the splits that the stage was trained with
_NAMES = {  # in messages
    "params": "parameters",
    "stats": "statistics",
    "opt_state": "optimiser state",
    "average": "averaged weights",
    _META: "description",
}

# The errors of a full disk, an exceeded quota, and a limit on the size of files.
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def _is_useful(record: logging.LogRecord) -> bool:
    """Drops Orbax's lines on read-only folders, and on metadata that only Orbax needs."""
    text = str(record.msg)
    useless = ("read_only=True", "directory is read only", "json parse Metadata file")
    return not any(part in text for part in useless)


logging.getLogger("absl").addFilter(_is_useful)


@dataclass(frozen=True)
class CheckpointMeta(Document):
    """The description of a checkpoint.

    Attributes:
      model: the network, see `tasks.Task.describe`.
      step, epoch: of the state; epochs that are complete.
      validated_step: the last step of the last validated epoch.
      options: of the training.
      record: facts on the training data.
      loader: the position of the loader.
      value: the validation score, of a best checkpoint.
      sha256: `digests` of the parts of the state by name, of this description as 'meta', and of
        the splits trained with; empty in checkpoints of version 0.1.0.
    """

    SCHEMA: ClassVar[str] = "brats_jax.checkpoint"
    REMEDY: ClassVar[str] = "train again in another --workdir"
    model: dict[str, Any]
    step: int
    epoch: int
    validated_step: int | None = None
    options: dict[str, Any] | None = None
    record: TrainingFacts = field(default_factory=TrainingFacts)
    loader: dict[str, Any] | None = None
    value: float | None = None
    sha256: dict[str, str] = field(default_factory=dict)

    def with_digests(self, state: Mapping[str, Any]) -> Self:
        """The description with the digests of a state and of itself."""
        own = digests.of_document(dataclasses.replace(self, sha256={}).to_json())
        splits = {name: digest for name, digest in self.sha256.items() if name == SPLITS}
        sums = {**splits, **digests.of_state(state), _META: own}
        return dataclasses.replace(self, sha256=sums)


def check_splits(stage: StageFolder, splits_json: Path, digest: str) -> None:
    """Refuses splits that a stage was not trained with: its test set may be other patients.

    Args:
      stage: the stage; one without a checkpoint, or of version 0.1.0, fits any splits.
      splits_json: path of the splits, for the message.
      digest: `Splits.digest`.

    Raises:
      BratsError: other splits, or a checkpoint that cannot be read.
    """
    folder = next((path for path in (stage.best, stage.last) if checkpoint_steps(path)), None)
    if folder is not None and read_meta(folder).sha256.get(SPLITS, digest) != digest:
        raise BratsError(
            f"{splits_json} has other sets than {folder} was trained with, so that its training "
            "patients may be test patients now; copy back the file that it was trained with, or "
            "give another --workdir"
        )


class Checkpoints:
    """Saves checkpoints into a folder in the background, and keeps the newest.

    A save becomes visible by one rename, and the previous checkpoint is removed after that: a kill
    at any moment leaves a whole checkpoint. Of several processes only the main one may use it.
    """

    def __init__(self, directory: Path) -> None:
        import orbax.checkpoint as ocp

        _silence_repeated_errors()
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=1,
                create=False,
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
                multiprocessing_options=_alone(),
            ),
        )

    def save(self, step: int, state: Any, meta: CheckpointMeta) -> None:
        """Saves `state`, a pytree of arrays, and its description as step `step`.

        Keeps a step that exists already: replacing it would leave the folder briefly without a
        checkpoint. The arrays must not be donated before `wait` has returned.
        """
        import orbax.checkpoint as ocp

        if step in self._manager.all_steps():
            return
        # Orbax would first cut each of hundreds of device arrays into a slice for every device,
        # which is far slower.
        arrays = jax.device_get(state)
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(arrays),
                    meta=ocp.args.JsonSave(meta.with_digests(arrays).to_json()),
                ),
                force=True,
            )
            self._keep_alone(step)
        except Exception as error:
            raise self._readable(error) from error

    def _keep_alone(self, step: int) -> None:
        """Removes later steps, of a training that was started anew: Orbax keeps the largest."""
        later = [other for other in self._manager.all_steps() if other > step]
        if later:
            self._manager.wait_until_finished()
            for other in later:
                self._manager.delete(other)

    def wait(self) -> None:
        """Waits until the saves are on disk."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._readable(error) from error

    def close(self) -> None:
        """Waits, and ends the background threads; raises if a save failed."""
        try:
            self.wait()
        except BaseException:  # Ctrl-C, too, ends the threads; Orbax may raise the same error again
            with contextlib.suppress(Exception):
                self._manager.close()
            raise
        self._manager.close()

    def remove_older(self) -> None:
        """Removes all but the newest: a kill may have left the one before it."""
        for step in sorted(self._manager.all_steps())[:-1]:
            self._manager.delete(step)

    def latest_step(self) -> int | None:
        """The step of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def _readable(self, error: Exception) -> Exception:
        """Replaces an error whose text mentions a full disk by one line."""
        text = f"{error} {error.__cause__ or ''}"
        for full in _FULL:
            if full.lower() in text.lower():
                return BratsError(
                    f"{self.directory}: {full}; the checkpoint before this one, if any, is kept: "
                    "make room and give the same command again"
                )
        return error


def _alone() -> Any:
    """Of several processes, Orbax runs in the main one only."""
    import orbax.checkpoint as ocp

    return ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})


def read_meta(directory: Path, model: Mapping[str, Any] | None = None) -> CheckpointMeta:
    """The description of the newest checkpoint in `directory`.

    Raises:
      BratsError: no checkpoint, a damaged one, one of another program or version, or not of `model`
        if given.
    """
    return _read(directory, lambda manager, step: {}, model)[1]


def read(directory: Path, template: Any, model: Mapping[str, Any]) -> tuple[Any, CheckpointMeta]:
    """Restores the newest checkpoint.

    Args:
      directory: a folder that `Checkpoints` wrote.
      template: pytree of jax.ShapeDtypeStruct (with sharding), or arrays; may lack keys of the
        saved tree's top level.
      model: the network that the checkpoint must be of, see `tasks.Task.describe`.

    Returns:
      (state, meta).

    Raises:
      BratsError: no checkpoint, another version, another model, or arrays that are not those that
        were saved.
    """

    def restore(manager: "ocp.CheckpointManager", step: int) -> Any:
        import orbax.checkpoint as ocp

        return manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeRestore(
                    template,
                    restore_args=ocp.checkpoint_utils.construct_restore_args(template),
                    partial_restore=True,
                )
            ),
        ).state

    return _read(directory, restore, model)


def _read(directory: Path, restore: Any, model: Mapping[str, Any] | None = None) -> Any:
    import orbax.checkpoint as ocp

    # Orbax would create a missing folder.
    if not checkpoint_steps(directory):
        raise BratsError(f"{directory}: no checkpoint there; {_without(directory)}")
    _silence_repeated_errors()
    directory = directory.absolute()
    # Orbax's own choice of the newest may raise for a damaged folder, or skip it.
    where = directory / str(max(checkpoint_steps(directory)))
    try:
        with ocp.CheckpointManager(
            directory,
            options=ocp.CheckpointManagerOptions(
                create=False, read_only=True, multiprocessing_options=_alone()
            ),
        ) as manager:
            return _restore(manager, where, restore, model)
    except BratsError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise _damaged(where, f"not a readable checkpoint ({_first_line(error)})") from error


def _restore(
    manager: "ocp.CheckpointManager", where: Path, restore: Any, model: Mapping[str, Any] | None
) -> tuple[Any, CheckpointMeta]:
    import orbax.checkpoint as ocp

    step = int(where.name)
    document = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
    try:
        meta = CheckpointMeta.from_json(document)
    except ValueError as error:
        raise BratsError(f"{where}: {error}; {CheckpointMeta.REMEDY}") from None
    own = {name: value for name, value in document.items() if name != "sha256"}
    if meta.sha256 and meta.sha256.get(_META) != digests.of_document(own):
        raise _changed(where, [_META])
    if model is not None and meta.model != _jsonable(model):
        differences = _differences(meta.model, _jsonable(model))
        raise BratsError(f"{where}: checkpoint of another model: {differences}")
    try:
        state = restore(manager, step)
        found = digests.of_state(state) if meta.sha256 else {}
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise _damaged(where, f"cannot be restored ({_first_line(error)})") from error
    changed = [name for name, digest in found.items() if meta.sha256.get(name) != digest]
    if changed:
        raise _changed(where, changed)
    return state, meta


def _changed(where: Path, parts: list[str]) -> BratsError:
    names = " and ".join(_NAMES.get(part, part) for part in parts)
    return _damaged(where, f"{names} changed on disk since the checkpoint was saved")


def _damaged(where: Path, problem: str) -> BratsError:
    return BratsError(
        f"{where}: {problem}: copy it again if it was copied, or remove this folder and give the "
        "command that trained again"
    )


def _without(directory: Path) -> str:
    """What to do where a folder of checkpoints has none."""
    complete = StageFolder(directory.parent).complete_json
    if complete.exists():
        return f"copy it back, or remove {complete} and give the command that trained again"
    return "train this stage first"


def _silence_repeated_errors() -> None:
    """Keeps messages of libraries about a failed save or restore off the terminal.

    The error is raised as well. Orbax logs a traceback for each of its threads. Asyncio and the
    interpreter report arrays that are no longer awaited. TensorStore reports a closed event loop.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    if _is_not_raised in loggers[0].filters:
        return
    for logger in loggers:
        logger.addFilter(_is_not_raised)
    default_hook = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        # Only Orbax uses asyncio here.
        closed = str(unraisable.exc_value) == "Event loop is closed"
        if not closed and not inspect.iscoroutine(unraisable.object):
            default_hook(unraisable)

    sys.unraisablehook = hook


def _is_not_raised(record: logging.LogRecord) -> bool:
    """Drops the traceback of an error that Orbax or asyncio logs and that is raised as well."""
    return not (record.exc_info and ("orbax" in record.pathname or record.name == "asyncio"))


def _jsonable(model: Mapping[str, Any]) -> dict[str, Any]:
    """`model` as it reads back from JSON."""
    return json.loads(json.dumps(dict(model)))


def _differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [n for n in {**saved, **wanted} if saved.get(n) != wanted.get(n)]
    return "; ".join(f"{n} is {saved.get(n)} there, {wanted.get(n)} here" for n in names)


def _first_line(error: Exception) -> str:
    # TensorStore appends its whole specification.
    text = str(error).split(". See full TensorStore details")[0].strip()
    return (text or type(error).__name__).splitlines()[0][:200]
