"""What all commands do alike: one line for what is wrong, and a status."""

import sys

from absl import flags


def fail(message: str) -> int:
    """Prints the one line a user is meant to read, and returns the exit status."""
    print(f"error: {message}", file=sys.stderr)
    return 1


def one_line_flags(arguments: list[str]) -> list[str]:
    """Like absl's own parser, but a wrong flag is one line."""
    try:
        return flags.FLAGS(arguments)
    except (flags.Error, ValueError, TypeError) as error:
        sys.exit(fail(" ".join(str(error).split())))
