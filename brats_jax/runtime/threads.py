"""Threads for the work on one case: NumPy, zlib and hashlib release Python's global lock."""

import concurrent.futures
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# More threads would only wait for memory, and each needs scratch space.
_MAX_THREADS = 8

# Bytes of the stack of a thread that compiles. A main thread has 8 MiB or more, but other threads
# may get 2 MiB only.
_STACK = 16 * 2**20

_limit = _MAX_THREADS


def available_cpus() -> int:
    """Number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_limit(count: int) -> None:
    """Limits the threads of this process, for workers that share the processors."""
    global _limit
    _limit = max(1, min(count, _MAX_THREADS))


def parallel_map(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Applies `function` to every item in threads; results are in the order of the items.

    Where several items raise, the exception of the first of them is raised.
    """
    todo = list(items)
    count = min(len(todo), available_cpus(), _limit)
    if count < 2:
        return [function(item) for item in todo]
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, todo))


def interruptible(function: Callable[[], Result]) -> Result:
    """Calls a function in a thread and waits for it; a signal ends the wait at once.

    Python calls the handler of a signal in the main thread, between two of its instructions: while
    that thread itself compiles or waits for a device, not before this has ended. After the
    exception of a handler the function goes on until the process ends. It sees the caller's
    `contextvars`, but not JAX's settings of a thread, such as `with jax.default_device(...)`.
    """
    with in_thread(function) as future:
        try:
            return future.result()
        finally:
            # The future holds the error, whose traceback holds this frame: without a circle, the
            # data of a failed case are freed at once.
            del future


@contextlib.contextmanager
def in_thread(
    function: Callable[[], Result],
) -> Iterator[concurrent.futures.Future[Result]]:
    """Calls a function in a thread, as `interruptible` does, while the caller does something else.

    Yields:
      The future of its result. The caller waits for it; if the caller ends before, the function
      goes on until the process ends.
    """
    pool = concurrent.futures.ThreadPoolExecutor(1, "interruptible")
    before = threading.stack_size(_STACK)
    try:
        future = pool.submit(contextvars.copy_context().run, function)
    finally:
        threading.stack_size(before)
    try:
        yield future
    finally:
        pool.shutdown(wait=future.done())
        del future


def split_range(length: int, parts: int = 2 * _MAX_THREADS) -> list[slice]:
    """Divides `range(length)` into at most `parts` slices of equal size, for `parallel_map`."""
    size = max(1, -(-length // parts))
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
