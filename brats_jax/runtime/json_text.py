"""Strict parsing of JSON: refuses much that `json.loads` accepts without a warning."""

import json
import math
from typing import Any, NoReturn

_MOST_DIGITS = 19  # of 64 bits
_DEEPEST = 50  # objects and lists within each other
_TOO_DEEP = "its objects and lists are nested too deeply"


def parse_json(text: str, *, allow_nan: bool = False) -> Any:
    """Parses JSON.

    Args:
      text: the JSON.
      allow_nan: takes the words NaN and Infinity, which JSON does not have and Python writes.

    Raises:
      ValueError: it is no JSON; an object has a name twice; a number does not fit in 64 bits; it
        is nested too deeply.
    """
    try:
        document = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole_number,
            parse_float=_number,
            parse_constant=None if allow_nan else _no_number,
        )
        _check_depth(document, _DEEPEST)
        return document
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise ValueError(_TOO_DEEP)
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, dict | list):
                _check_depth(item, left - 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:40]!r} stands there twice")
    return found


def _whole_number(digits: str) -> int:
    number = int(digits) if len(digits) <= _MOST_DIGITS + 1 else 2**63
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"the number {digits[:20]}... does not fit in 64 bits")
    return number


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")
