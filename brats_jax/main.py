"""Trains and evaluates an experiment.

    python -m brats_jax.main --config=configs/ssl.py --workdir=RUN --config.data.store=STORE

Given again, the same command goes on where it was stopped and skips what is complete.
"""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from brats_jax.command_line import fail, one_line_flags
from brats_jax.errors import BratsError, Busy

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Settings, e.g. configs/ssl.py; --config.NAME=VALUE changes one."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Run folder: checkpoints, numbers, pictures.")
_MODE = flags.DEFINE_string(
    "mode", "train", "train (and evaluate), pretrain (the first stage only), or evaluate only."
)

# The exit status that says: another process is at it, try again later (sysexits.h).
BUSY = 75


def _main(arguments: Sequence[str]) -> int:
    # Imported here: a misspelt flag should not have to wait for the libraries.
    from brats_jax import experiment

    if len(arguments) > 1:
        return fail(
            f"unexpected argument '{arguments[1]}'; settings are given as --config.NAME=VALUE"
        )
    if _CONFIG.value is None or _WORKDIR.value is None:
        return fail("give --config=configs/NAME.py and --workdir=RUN")
    # Orbax and JAX tell every checkpoint they write.
    logging.set_verbosity(logging.ERROR)
    try:
        experiment.run(_CONFIG.value, Path(_WORKDIR.value), _MODE.value)
    except Busy as error:
        fail(str(error))
        return BUSY
    except BratsError as error:
        return fail(str(error))
    except OSError as error:  # a full disk, a folder that may not be written, a file in its place
        where = error.filename or _WORKDIR.value
        return fail(f"{where}: {error.strerror or error}; what was saved before is kept")
    except KeyboardInterrupt:
        print("stopped: the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _parse_flags(arguments: list[str]) -> list[str]:
    """Like absl's own parser, with one line instead of a traceback for a wrong setting."""
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


def run_main() -> None:
    """The console entry point."""
    app.run(_main, flags_parser=_parse_flags)


if __name__ == "__main__":
    run_main()
