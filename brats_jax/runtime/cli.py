"""What all commands do alike: one line for what is wrong, and a status."""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from brats_jax.runtime import distributed
from brats_jax.runtime.signals import close_output


def fail(message: str) -> int:
    """Prints the one line a user is meant to read, and returns the exit status."""
    print(f"error: {message}", file=sys.stderr)
    return 1


def tell(text: str) -> None:
    """Prints a line of a command's answer; ends the command if nobody reads it, as `head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        close_output()


def one_line_flags(arguments: list[str]) -> list[str]:
    """Like absl's own parser, but a wrong flag is one line."""
    try:
        return flags.FLAGS(arguments)
    except (flags.Error, ValueError, TypeError) as error:
        if isinstance(error, flags.UnrecognizedFlagError) and error.flagname in distributed.FLAGS:
            message = "only brats_jax.main runs in several processes; start this once"
            sys.exit(fail(f"--{error.flagname}: {message}"))
        sys.exit(fail(" ".join(str(error).split())))


def one_line_config_flags(arguments: list[str]) -> list[str]:
    """The same for a command with --config: a wrong setting is one line, with those there are."""
    config_file = _config_argument(arguments)
    if config_file is not None:
        if not config_file.is_file():
            sys.exit(fail(f"{config_file}: no such configuration; give one, e.g. configs/ssl.py"))
        # The files in configs/ import each other: let them, wherever the user stands.
        sys.path.insert(0, str(config_file.resolve().parent.parent))
    try:
        return one_line_flags(arguments)
    except (AttributeError, KeyError) as error:
        # ml_collections: 'los'\nDid you mean "loss" instead of "los"?
        lines = str(error).replace("\\n", "\n").strip("\"'").splitlines()
        hint = lines[-1].strip("\"'") if len(lines) > 1 else ""
        sys.exit(fail(f"unknown setting {_unknown_setting(config_file, arguments)} {hint}".strip()))


def _config_argument(arguments: Sequence[str]) -> Path | None:
    for position, argument in enumerate(arguments):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config":
            following = arguments[position + 1 : position + 2]
            return Path(value if equals else "".join(following))
    return None


def _unknown_setting(config_file: Path | None, arguments: Sequence[str]) -> str:
    """Finds the setting that the configuration does not have, and names those it has there."""
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
