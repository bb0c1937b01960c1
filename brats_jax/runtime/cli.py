"""The command-line wrapper of all commands: flags, errors of one line, exit statuses."""

import ast
import atexit
import contextlib
import gc
import importlib.util
import io
import logging as standard_logging
import os
import runpy
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging

from brats_jax import about
from brats_jax.errors import BUSY_STATUS, BratsError, Busy
from brats_jax.runtime import distributed, failures, temporaries
from brats_jax.runtime.signals import (
    Terminated,
    close_output,
    discard_output,
    raise_on_first_signal,
    received,
    stop_announcing,
)
from brats_jax.runtime.text import one_line

# An installed package has configs/ in the first folder, a clone in the second.
_WITH_CONFIGS = (Path(about.__file__).parent / "share", Path(about.__file__).parents[1])
COMMANDS = ("prepare", "main", "grid", "report", "predict", "calibrate", "export", "phantom")
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # of descriptors 0, 1, 2
_HELP = ("help", "h", "helpshort", "helpfull", "helpxml")


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

    app.run(main, flags_parser=_parse_flags)


def _collect_seldom() -> None:
    """Lets Python's collector of reference cycles run less often, and not at the end.

    Imports and traced programs are a million objects that live on. With Python's defaults the
    collector goes through them again and again: 2.2 of the 18 s of CPU time that a small run takes.
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


def print_error(message: str) -> None:
    """Prints the one line that describes an error."""
    print(f"error: {one_line(message)}", file=sys.stderr)


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


def _parse_flags(arguments: list[str]) -> list[str]:
    """Parses the flags as absl does, but a wrong flag or setting is one line."""
    names = {a.lstrip("-").partition("=")[0] for a in arguments[1:] if a.startswith("-")}
    if "version" in names:
        _print_version()
    if names & {*_HELP}:
        shown = io.StringIO()
        try:
            with contextlib.redirect_stdout(shown):
                return flags.FLAGS(arguments)
        except SystemExit:  # absl ends with 1 after --help
            _print_help(shown.getvalue())
        except Exception as error:
            _exit(str(error))
    config_file = _config_argument(arguments) if "config" in flags.FLAGS else None
    if config_file is not None:
        arguments, config_file = _with_found_config(arguments, config_file)
        # The files in configs/ import each other; the working directory may be any other.
        sys.path.insert(0, str(config_file.resolve().parent.parent))
        _check_config_file(config_file)
    try:
        return flags.FLAGS(arguments)
    except (AttributeError, KeyError) as error:
        if "config" not in flags.FLAGS:
            raise
        # ml_collections: 'los'\nDid you mean "loss" instead of "los"?
        lines = str(error).replace("\\n", "\n").strip("\"'").splitlines()
        hint = lines[-1].strip("\"'") if len(lines) > 1 else ""
        _exit(f"unknown setting {_unknown_setting(config_file, arguments)} {hint}".strip())
    except Exception as error:  # of absl, or of the type of a setting
        if isinstance(error, flags.UnrecognizedFlagError) and error.flagname in distributed.FLAGS:
            _exit(
                f"--{error.flagname}: only brats_jax.main runs in several processes; start this "
                "command once"
            )
        _exit(str(error))


def _with_found_config(arguments: list[str], given: Path) -> tuple[list[str], Path]:
    """(arguments, configuration): one of this program's, where the working directory has none.

    Args:
      arguments: of the command.
      given: the configuration that they name.
    """
    if os.path.isfile(given):
        return arguments, given
    own = next((p for p in (folder / given for folder in _WITH_CONFIGS) if p.is_file()), None)
    if own is None:
        _exit(
            f"{given}: no such configuration in {Path.cwd()} or of this program; give one, e.g. "
            "configs/ssl.py"
        )
    naming = (str(given), f"--config={given}", f"-config={given}")
    return [a.replace(str(given), str(own)) if a in naming else a for a in arguments], own


def _check_config_file(path: Path) -> None:
    """Ends with one line if a configuration cannot be run, or does not return its settings."""
    from ml_collections import ConfigDict

    remedy = "repair it, or give one of configs/"
    try:
        get_config = runpy.run_path(str(path)).get("get_config")
        config = get_config() if callable(get_config) else None
    except KeyboardInterrupt:
        raise
    except SyntaxError as error:
        _exit(f"{error.filename or path}, line {error.lineno}: {error.msg}: {remedy}")
    except BaseException as error:
        steps = traceback.extract_tb(error.__traceback__)
        lines = [step.lineno for step in steps if step.filename == str(path)]
        line = f", line {lines[-1]}" if lines else ""
        _exit(f"{path}{line}: {type(error).__name__}: {error}: {remedy}")
    if not callable(get_config):
        _exit(f"{path}: it defines no get_config(): {remedy}")
    if not isinstance(config, ConfigDict):
        _exit(f"{path}: get_config() returns no ConfigDict: {remedy}")


def _exit(message: str) -> NoReturn:
    print_error(message)
    sys.exit(1)


def _config_argument(arguments: Sequence[str]) -> Path | None:
    for position, argument in enumerate(arguments):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config":
            following = arguments[position + 1 : position + 2]
            return Path(value if equals else "".join(following))
    return None


def _unknown_setting(config_file: Path | None, arguments: Sequence[str]) -> str:
    """The setting that the configuration lacks, and the names that are valid in its place."""
    if config_file is None:
        return "before --config was given"
    config = runpy.run_path(str(config_file))["get_config"]()
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0]
        if not argument.startswith("-") or not name.removeprefix("no").startswith("config."):
            continue
        group = config
        path: list[str] = []
        for part in name.split(".")[1:]:
            if part not in group:
                return f"config.{'.'.join([*path, part])}; valid here: {', '.join(sorted(group))}."
            group, path = group[part], [*path, part]
    return ""


def main() -> None:
    """The console script `brats-jax COMMAND ...`: the same as `python -m brats_jax.COMMAND ...`."""
    open_missing_streams()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--version", "-version", "version"):
        _print_version()
    elif name in ("--help", "-h", "-help", "help"):
        print("usage: brats-jax COMMAND [--help] [--FLAG=VALUE ...]\n")
        for command in COMMANDS:
            print(f"  {command:10} {_summary(command)}")
        print(f"\nVersion {about.__version__}. {about.RESEARCH_USE_ONLY}")
    elif name in COMMANDS:
        del sys.argv[1]
        runpy.run_module(f"brats_jax.{name}", run_name="__main__", alter_sys=True)
    else:
        _exit(f"unknown command '{name}'; give one of {', '.join(COMMANDS)}")


def _print_version() -> NoReturn:
    print(f"brats_jax {about.__version__}")
    sys.exit(0)


def _print_help(text: str) -> NoReturn:
    """Prints the help of absl, with the module in place of its absolute path."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name if spec is not None else Path(sys.argv[0]).name
    text = text.replace(f"\n{sys.argv[0]}:\n", f"\n{name}:\n")
    try:
        print(text.replace("    (default: 'None')\n", ""), end="", flush=True)
    except BrokenPipeError:  # `| head`
        discard_output()
    sys.exit(0)


def _summary(command: str) -> str:
    """The first line of a command's docstring; importing all commands would define flags twice."""
    spec = importlib.util.find_spec(f"brats_jax.{command}")
    assert spec is not None and spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text()))
    return (docstring or "").splitlines()[0]
