"""The command-line wrapper of all commands: flags, errors of one line, exit statuses."""

import ast
import importlib.util
import runpy
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging

from brats_jax import about
from brats_jax.errors import BUSY_STATUS, BratsError, Busy
from brats_jax.runtime import distributed
from brats_jax.runtime.signals import Terminated, close_output, raise_on_sigterm

# An installed package has configs/ here; from a clone it is a folder of the working directory.
_INSTALLED = Path(about.__file__).parent / "share"
COMMANDS = ("prepare", "main", "grid", "report", "predict", "calibrate", "export", "phantom")


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
      folder: returns the folder that an OSError without a file name is about.
      after_stop: printed after Ctrl-C or SIGTERM: how to continue.
      after_full_disk: appended to the line of an OSError if the folder exists.
    """

    def main(arguments: Sequence[str]) -> int:
        # Orbax and JAX log every checkpoint that they read or write.
        logging.set_verbosity(logging.ERROR)
        raise_on_sigterm()
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
            print_error(str(error))
        except BrokenPipeError:
            close_output()
        except OSError as error:  # a full disk, a folder without permission, a file in its place
            where = folder()
            after = after_full_disk if where and Path(where).is_dir() else ""
            print_error(f"{error.filename or where}: {error.strerror or error}{after}")
        except KeyboardInterrupt as error:
            print(f"stopped: {after_stop}", file=sys.stderr)
            number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
            return distributed.end(128 + number)
        except Exception as error:
            if distributed.process_count() == 1:
                raise
            if distributed.is_lost_process(error):
                print_error(
                    "another process has ended; the same commands continue from the last checkpoint"
                )
            else:
                traceback.print_exc()
        return distributed.end(1)

    app.run(main, flags_parser=_parse_flags)


def print_error(message: str) -> None:
    """Prints the one line that describes an error."""
    print(f"error: {message}", file=sys.stderr)


def whole_numbers(flag: str, values: Sequence[str], count: int) -> tuple[int, ...]:
    """The values of a flag that takes `count` positive whole numbers.

    Raises:
      BratsError: other values.
    """
    if len(values) != count or not all(v.isdecimal() and int(v) > 0 for v in values):
        raise BratsError(f"--{flag}={','.join(values)}: give {count} positive whole numbers")
    return tuple(int(value) for value in values)


def _parse_flags(arguments: list[str]) -> list[str]:
    """Parses the flags as absl does, but a wrong flag or setting is one line."""
    config_file = _config_argument(arguments) if "config" in flags.FLAGS else None
    if config_file is not None:
        if not config_file.is_file() and (_INSTALLED / config_file).is_file():
            named, found = str(config_file), str(_INSTALLED / config_file)
            arguments = [
                a.replace(named, found)
                if a in (named, f"--config={named}", f"-config={named}")
                else a
                for a in arguments
            ]
            config_file = _INSTALLED / config_file
        if not config_file.is_file():
            _exit(f"{config_file}: no such configuration; give one, e.g. configs/ssl.py")
        # The files in configs/ import each other; the working directory may be any other.
        sys.path.insert(0, str(config_file.resolve().parent.parent))
    try:
        return flags.FLAGS(arguments)
    except (flags.Error, ValueError, TypeError) as error:
        if isinstance(error, flags.UnrecognizedFlagError) and error.flagname in distributed.FLAGS:
            _exit(
                f"--{error.flagname}: only brats_jax.main runs in several processes; start this "
                "command once"
            )
        _exit(" ".join(str(error).split()))
    except (AttributeError, KeyError) as error:
        if "config" not in flags.FLAGS:
            raise
        # ml_collections: 'los'\nDid you mean "loss" instead of "los"?
        lines = str(error).replace("\\n", "\n").strip("\"'").splitlines()
        hint = lines[-1].strip("\"'") if len(lines) > 1 else ""
        _exit(f"unknown setting {_unknown_setting(config_file, arguments)} {hint}".strip())


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
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print("usage: brats-jax COMMAND [--help] [--FLAG=VALUE ...]\n")
        for command in COMMANDS:
            print(f"  {command:10} {_summary(command)}")
        print(f"\nVersion {about.__version__}. {about.RESEARCH_USE_ONLY}")
    elif name in COMMANDS:
        del sys.argv[1]
        runpy.run_module(f"brats_jax.{name}", run_name="__main__", alter_sys=True)
    else:
        _exit(f"unknown command '{name}'; give one of {', '.join(COMMANDS)}")


def _summary(command: str) -> str:
    """The first line of a command's docstring; importing all commands would define flags twice."""
    spec = importlib.util.find_spec(f"brats_jax.{command}")
    assert spec is not None and spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text()))
    return (docstring or "").splitlines()[0]
