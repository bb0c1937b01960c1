"""Flags that know their valid values: paths, and numbers within limits."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from brats_jax.errors import BratsError
from brats_jax.runtime.text import joined

# What Linux takes, in bytes: of a whole path, and of one name in it.
_LONGEST_PATH, _LONGEST_NAME = 4095, 255
LARGEST_SEED = 2**32 - 1  # JAX keeps 32 bits of a seed: larger ones would repeat smaller ones
MOST_SLICES_AT_ONCE = 65_536
# The flags belong to the module that calls, whose --help lists them.
flags.disclaim_key_flags()


def define_path(name: str, help: str) -> flags.FlagHolder[str | None]:
    """A flag with a path, None if it is not given; an empty or over-long one is refused."""
    return flags.DEFINE(_PathParser(), name, None, help, serializer=flags.ArgumentSerializer())


def define_paths(name: str, help: str) -> flags.FlagHolder[Any]:
    """The same for a flag that may be given several times: the paths, or None."""
    return flags.DEFINE_multi(_PathParser(), flags.ArgumentSerializer(), name, None, help)


def define_number(
    name: str, default: float | None, help: str, *, least: float, most: float
) -> flags.FlagHolder[Any]:
    """A flag with a finite number from `least` to `most`, or the default, which may be None."""
    return flags.DEFINE(
        _NumberParser(least, most), name, default, help, serializer=flags.ArgumentSerializer()
    )


def missing_flags(given: Mapping[str, object]) -> str:
    """'give --output=DIR': the message that names the flags that are not given, and no other.

    Args:
      given: the value by a flag and an example of it; None: not given.
    """
    return f"give {joined([flag for flag, value in given.items() if value is None])}"


def whole_numbers(
    flag: str, values: Sequence[str], count: int, most: int = 4096
) -> tuple[int, ...]:
    """The values of a flag that takes `count` whole numbers from 1 to `most`.

    Raises:
      BratsError: other values.
    """
    if len(values) != count or not all(is_whole_number(v) and 0 < int(v) <= most for v in values):
        raise BratsError(f"--{flag}={','.join(values)}: give {count} positive whole numbers")
    return tuple(int(value) for value in values)


def is_whole_number(text: str) -> bool:
    """Whether a text is a whole number from 0 up, of so few digits that it fits in 64 bits."""
    return text.isdecimal() and len(text) <= 18


def check_path(path: str | os.PathLike[str]) -> None:
    """Refuses a path that no file system takes.

    Raises:
      ValueError: it is empty, or too long.
    """
    raw = os.fsencode(path)
    if not raw.strip():
        raise ValueError("it is empty: give a path")
    longest = max(len(part) for part in raw.split(b"/"))
    if len(raw) > _LONGEST_PATH or longest > _LONGEST_NAME:
        raise ValueError(
            f"the path has {len(raw)} bytes, a name in it {longest}: choose a shorter one (at most "
            f"{_LONGEST_PATH} and {_LONGEST_NAME})"
        )


class _PathParser(flags.ArgumentParser[str]):
    syntactic_help = "a path"

    def parse(self, argument: str) -> str:
        check_path(argument)
        return argument

    def flag_type(self) -> str:
        return "path"


class _NumberParser(flags.ArgumentParser[float]):
    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most
        self.syntactic_help = f"a number from {least:g} to {most:g}"

    def parse(self, argument: str | float) -> float:
        try:
            value = float(argument)
        except (ValueError, OverflowError):
            value = math.nan
        if not self._least <= value <= self._most:  # NaN neither
            raise ValueError(f"give {self.syntactic_help}")
        return value

    def flag_type(self) -> str:
        return "float"
