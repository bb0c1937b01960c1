"""Parsing of the flags of a command, --config among them: a wrong one is one line."""

import contextlib
import io
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from absl import flags

from brats_jax import about
from brats_jax.runtime import distributed
from brats_jax.runtime.failures import exit_with_error
from brats_jax.runtime.signals import discard_output

# An installed package has configs/ in the first folder, a clone in the second.
_WITH_CONFIGS = (Path(about.__file__).parent / "share", Path(about.__file__).parents[1])
_HELP = ("help", "h", "helpshort", "helpfull", "helpxml")


def parse_flags(arguments: list[str]) -> list[str]:
    """Parses the flags as absl does, but a wrong flag or setting is one line."""
    names = {a.lstrip("-").partition("=")[0] for a in arguments[1:] if a.startswith("-")}
    if "version" in names:
        print_version()
    if names & {*_HELP}:
        shown = io.StringIO()
        try:
            with contextlib.redirect_stdout(shown):
                return flags.FLAGS(arguments)
        except SystemExit:  # absl ends with 1 after --help
            _print_help(shown.getvalue())
        except Exception as error:
            exit_with_error(str(error))
    config_file = config_argument(arguments) if "config" in flags.FLAGS else None
    if config_file is not None:
        arguments, config_file = with_found_config(arguments, config_file)
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
        exit_with_error(
            f"unknown setting {_unknown_setting(config_file, arguments)} {hint}".strip()
        )
    except Exception as error:  # of absl, or of the type of a setting
        if isinstance(error, flags.UnrecognizedFlagError) and error.flagname in distributed.FLAGS:
            exit_with_error(
                f"--{error.flagname}: only brats_jax.main runs in several processes; start this "
                "command once"
            )
        exit_with_error(str(error))


def with_found_config(arguments: list[str], given: Path) -> tuple[list[str], Path]:
    """(arguments, configuration): one of this program's, where the working directory has none.

    Args:
      arguments: of the command.
      given: the configuration that they name.
    """
    if os.path.isfile(given):
        return arguments, given
    own = next((p for p in (folder / given for folder in _WITH_CONFIGS) if p.is_file()), None)
    if own is None:
        exit_with_error(
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
        exit_with_error(f"{error.filename or path}, line {error.lineno}: {error.msg}: {remedy}")
    except BaseException as error:
        steps = traceback.extract_tb(error.__traceback__)
        lines = [step.lineno for step in steps if step.filename == str(path)]
        line = f", line {lines[-1]}" if lines else ""
        exit_with_error(f"{path}{line}: {type(error).__name__}: {error}: {remedy}")
    if not callable(get_config):
        exit_with_error(f"{path}: it defines no get_config(): {remedy}")
    if not isinstance(config, ConfigDict):
        exit_with_error(f"{path}: get_config() returns no ConfigDict: {remedy}")


def config_argument(arguments: Sequence[str]) -> Path | None:
    """The value of --config, or None."""
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


def print_version() -> NoReturn:
    """Prints the version and exits."""
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
