"""The command-line wrapper of all commands: their streams, ends and exit statuses; `brats-jax`."""

import ast
import atexit
import gc
import importlib.util
import logging as standard_logging
import os
import runpy
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, logging

from brats_jax import about
from brats_jax.errors import BUSY_STATUS, BratsError, Busy
from brats_jax.runtime import distributed, failures, temporaries
from brats_jax.runtime.failures import exit_with_error, print_error
from brats_jax.runtime.flag_parsing import parse_flags, print_version
from brats_jax.runtime.signals import (
    Terminated,
    close_output,
    raise_on_first_signal,
    received,
    stop_announcing,
)

COMMANDS = ("prepare", "main", "grid", "report", "predict", "calibrate", "export", "phantom")
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # of descriptors 0, 1, 2


def run(
    command: Callable[[], int | None],
    *,
    folder: Callable[[], str | Path | None],
    after_stop: str,
    after_full_disk: str = "",
) -> None:
    """Parses the flags, calls `command` and exits; expected failures print one line.

    Exit status: 0, or what `command` returns; 1 for an error; 75 where another process works on
    the same folder; 130 after Ctrl-C, 143 after SIGTERM, 141 if the output pipe is closed.

    Args:
      command: does the work; returns an exit status, None for 0.
      folder: returns the folder that an OSError without a file name is about; may fail.
      after_stop: printed after Ctrl-C or SIGTERM: how to continue.
      after_full_disk: appended to the line of an OSError if the folder exists.
    """

    _collect_seldom()
    open_missing_streams()
    temporaries.use_memory_if_no_folder()

    def stopped(number: int) -> int:
        stop_announcing()
        print(f"stopped: {after_stop}", file=sys.stderr)
        return distributed.end(128 + number)

    def main(arguments: Sequence[str]) -> int:
        _quiet_libraries()
        raise_on_first_signal()
        _escape_unencodable()
        try:
            if len(arguments) > 1:
                raise BratsError(
                    f"unexpected argument '{arguments[1]}'; give options as --name=value"
                )
            return distributed.end(command() or 0)
        except Busy as error:
            print_error(str(error))
            return distributed.end(BUSY_STATUS)
        except BratsError as error:
            if number := received():
                return stopped(number)
            print_error(str(error))
        except BrokenPipeError:
            close_output()
        except SystemExit as error:  # Interrupted, or the end of another process
            if not isinstance(error.code, int):
                raise
            return distributed.end(error.code)
        except KeyboardInterrupt as error:
            return stopped(signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
        except Exception as error:  # a full disk, a folder without permission, a vanished file
            if number := received():
                return stopped(number)
            _print_failure(error, folder, after_full_disk)
        return distributed.end(1)

    app.run(main, flags_parser=parse_flags)


def _collect_seldom() -> None:
    """Lets Python's collector of reference cycles run less often, and not at the end.

    Imports and traced programs are objects that live on, and with Python's defaults the collector
    goes through them again and again: a run of both stages in 16 small steps each took 18.0 s of
    processor time, and takes 15.5 s with these settings.
    """
    gc.set_threshold(50_000, 20, 50)
    atexit.register(gc.freeze)


def open_missing_streams() -> None:
    """Opens os.devnull in place of a standard stream that was closed (`2>&-`).

    Else the next file that is opened would get its descriptor, and what a library prints would be
    written into that file.
    """
    for descriptor, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
            os.set_inheritable(descriptor, True)  # also for worker processes
        if getattr(sys, name) is None:
            # Not at the descriptor: a library may have opened a file there before.
            stream = Path(os.devnull).open(mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _print_failure(
    error: Exception, folder: Callable[[], str | Path | None], after_full_disk: str
) -> None:
    several = distributed.process_count() > 1
    if several and distributed.is_lost_process(error):
        print_error(
            "another process has ended; the same commands continue from the last checkpoint"
        )
        return
    try:
        where = folder()
    # Any error of reading flags or a configuration must not hide the one that is printed.
    except Exception:
        where = None
    if not failures.is_expected(error) and (several or os.environ.get(failures.TRACEBACK)):
        traceback.print_exc()
    after = after_full_disk if isinstance(error, OSError) and failures.is_folder(where) else ""
    print_error(f"{failures.describe(error, where)}{after}")


def _quiet_libraries() -> None:
    """Silences libraries that would print several lines beside the one line of an error."""
    logging.set_verbosity(logging.FATAL)  # Orbax and JAX log every checkpoint that they read
    for name in ("nibabel.global", "matplotlib"):
        standard_logging.getLogger(name).setLevel(standard_logging.CRITICAL + 1)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _escape_unencodable() -> None:
    """Prints characters that the terminal's encoding lacks as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not in a notebook
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """The console script `brats-jax COMMAND ...`: the same as `python -m brats_jax.COMMAND ...`."""
    open_missing_streams()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--version", "-version", "version"):
        print_version()
    elif name in ("--help", "-h", "-help", "help"):
        print("usage: brats-jax COMMAND [--help] [--FLAG=VALUE ...]\n")
        for command in COMMANDS:
            print(f"  {command:10} {_summary(command)}")
        print(f"\nVersion {about.__version__}. {about.RESEARCH_USE_ONLY}")
    elif name in COMMANDS:
        del sys.argv[1]
        runpy.run_module(f"brats_jax.{name}", run_name="__main__", alter_sys=True)
    else:
        exit_with_error(f"unknown command '{name}'; give one of {', '.join(COMMANDS)}")


def _summary(command: str) -> str:
    """The first line of a command's docstring; importing all commands would define flags twice."""
    spec = importlib.util.find_spec(f"brats_jax.{command}")
    assert spec is not None and spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text()))
    return (docstring or "").splitlines()[0]
