"""Threads within one case: NumPy, zlib and hashlib let go of the interpreter while they work."""

import concurrent.futures
import os
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# More would wait for memory, and each takes scratch space of its own.
_MOST = 8

_limit = _MOST


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit(count: int) -> None:
    """At most so many threads in this process, which shares the processors with others."""
    global _limit
    _limit = max(1, min(count, _MOST))


def each(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`function` of every item, in their order; the first item's exception if several raise."""
    todo = list(items)
    count = min(len(todo), processors(), _limit)
    if count < 2:
        return [function(item) for item in todo]
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, todo))


def blocks(length: int, parts: int = 2 * _MOST) -> list[slice]:
    """`range(length)` in a few slices of about one size, for `each`."""
    size = max(1, -(-length // parts))
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
