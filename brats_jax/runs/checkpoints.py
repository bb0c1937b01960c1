"""Checkpoints on disk: a state pytree and a JSON description; the only file that imports Orbax."""

import contextlib
import errno
import inspect
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from brats_jax.errors import BratsError

SCHEMA = "brats_jax.checkpoint"
VERSION = 1

# The other processes have no part in what Orbax does.
_ALONE = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})

# What a system says when it takes no more: a full disk, a user's quota, a limit on files.
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def _worth_saying(record: logging.LogRecord) -> bool:
    """Not that what is opened to be read is opened to be read, which Orbax warns of twice."""
    text = str(record.msg)
    return "read_only=True" not in text and "directory is read only" not in text


logging.getLogger("absl").addFilter(_worth_saying)


class Checkpoints:
    """The newest checkpoint of one folder, saved in the background.

    A save becomes visible by one rename, and the one before it is removed only
    after that: a kill at any moment leaves a whole checkpoint. Of several processes only the
    first one may have it.
    """

    def __init__(self, directory: Path) -> None:
        _let_errors_be_raised_only()
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=1,
                create=False,
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
                multiprocessing_options=_ALONE,
            ),
        )

    def save(self, step: int, state: Any, meta: Mapping[str, Any]) -> None:
        """Saves `state` (a pytree of arrays) and `meta` (JSON-able) as step `step`.

        A step that is there already is left as it is: replacing it would need a
        moment without any. The arrays may not be donated before `wait` has returned.
        """
        if step in self._manager.all_steps():
            return
        document = {"schema": SCHEMA, "version": VERSION, **meta}
        # Given device arrays, Orbax would first cut each of hundreds into a slice for every
        # device: far slower.
        arrays = jax.device_get(state)
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(document)
                ),
                force=True,
            )
        except Exception as error:
            raise self._readable(error) from error

    def wait(self) -> None:
        """Returns when what was saved is on disk."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._readable(error) from error

    def close(self) -> None:
        """Waits, and ends the background threads.

        They end also where what was saved could not be written, which is then raised.
        """
        try:
            self.wait()
        except BaseException:
            with contextlib.suppress(Exception):  # which would only say the same again
                self._manager.close()
            raise
        self._manager.close()

    def latest_step(self) -> int | None:
        """The step of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def _readable(self, error: Exception) -> Exception:
        """Turns what storage says (it may be buried in a status text) into one line."""
        text = f"{error} {error.__cause__ or ''}"
        for full in _FULL:
            if full.lower() in text.lower():
                return BratsError(
                    f"{self.directory}: {full}; the checkpoint before this one, if any, is kept: "
                    "make room and give the same command again"
                )
        return error


def read_meta(directory: Path, model: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The description of the newest checkpoint in `directory`.

    Raises:
      BratsError: no checkpoint, one of another program or version, or not of `model` if given.
    """
    return _read(directory, lambda manager, step: {}, model)[1]


def read(directory: Path, template: Any, model: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Restores the newest checkpoint.

    Args:
      directory: a folder that `Checkpoints` wrote.
      template: pytree of jax.ShapeDtypeStruct (with sharding), or arrays. A subset
        of the saved tree's top level may be asked for.
      model: the description (`meta['model']`) that the checkpoint must have.

    Returns:
      (state, meta).

    Raises:
      BratsError: no checkpoint, another version, another model.
    """

    def restore(manager: ocp.CheckpointManager, step: int) -> Any:
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
    # Opening a manager on a missing folder would create it.
    if not directory.is_dir() or not any(p.name.isdigit() for p in directory.iterdir()):
        raise BratsError(f"{directory}: no checkpoint there; train this stage first")
    _let_errors_be_raised_only()
    directory = directory.absolute()
    with ocp.CheckpointManager(
        directory,
        options=ocp.CheckpointManagerOptions(
            create=False, read_only=True, multiprocessing_options=_ALONE
        ),
    ) as manager:
        step = manager.latest_step()
        if step is None:
            raise BratsError(f"{directory}: no whole checkpoint there; train this stage first")
        where = directory / str(step)
        try:
            meta = manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
        except Exception as error:
            raise BratsError(
                f"{where}: not a readable checkpoint ({_first_line(error)})"
            ) from error
        if meta.get("schema") != SCHEMA or meta.get("version") != VERSION:
            raise BratsError(
                f"{where}: written by another version of this program "
                f"({meta.get('schema')} {meta.get('version')}, expected {SCHEMA} {VERSION}); "
                "train anew in another --workdir"
            )
        if model is not None and meta["model"] != _jsonable(model):
            raise BratsError(f"{where}: checkpoint of another model: {_differences(meta, model)}")
        try:
            state = restore(manager, step)
        except BratsError:
            raise
        except Exception as error:
            raise BratsError(
                f"{where}: cannot be restored ({_first_line(error)}): copy it again if it was "
                "copied, or train this stage anew"
            ) from error
    return state, meta


def _let_errors_be_raised_only() -> None:
    """Keeps from the terminal what a failed save or restore prints besides raising it.

    Orbax logs the error of each of its threads with its traceback, asyncio those of the arrays
    that nobody waits for any more (or, where they were never begun again, the interpreter does),
    and TensorStore, whose work ends after the event loop that waited for it, prints that it is
    closed.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    if _raised_anyway in loggers[0].filters:
        return
    for logger in loggers:
        logger.addFilter(_raised_anyway)
    others = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        # Nothing else here uses asyncio.
        closed = str(unraisable.exc_value) == "Event loop is closed"
        if not closed and not inspect.iscoroutine(unraisable.object):
            others(unraisable)

    sys.unraisablehook = hook


def _raised_anyway(record: logging.LogRecord) -> bool:
    return not (record.exc_info and ("orbax" in record.pathname or record.name == "asyncio"))


def _jsonable(model: Mapping[str, Any]) -> dict[str, Any]:
    """`model` as it reads back from JSON."""
    return json.loads(json.dumps(dict(model)))


def _differences(meta: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    saved, wanted = meta["model"], _jsonable(model)
    names = [n for n in {**saved, **wanted} if saved.get(n) != wanted.get(n)]
    return "; ".join(f"{n} is {saved.get(n)} there, {wanted.get(n)} here" for n in names)


def _first_line(error: Exception) -> str:
    # TensorStore goes on with its whole specification.
    text = str(error).split(". See full TensorStore details")[0].strip()
    return (text or type(error).__name__).splitlines()[0][:200]
