"""Runs cases through three steps: read in threads, predict in this thread, write in threads.

The device computes while the next cases are read and the last ones are written; zlib and NumPy
release the interpreter lock. The number of cases in memory is bounded.
"""

import collections
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

AnyCase = TypeVar("AnyCase")


def run_cases(
    cases: Sequence[AnyCase],
    read: Callable[[AnyCase], Any],
    predict: Callable[[AnyCase, Any], Any],
    write: Callable[[Any, float], Any],
    *,
    readers: int,
    writers: int,
    meanwhile: Callable[[], None] | None = None,
) -> Generator[tuple[AnyCase, Future[Any]], None, None]:
    """Reads, predicts and writes cases; an error of one case does not stop the others.

    At most `readers + writers + 2` cases are in memory.

    Args:
      cases: in the order of the results.
      read: loads a case, in one of `readers` threads.
      predict: from a case and its loaded data, in the thread of the caller.
      write: stores a prediction, in one of `writers` threads; its second argument is the time
        (time.monotonic) at which the case was taken up.
      readers, writers: numbers of threads.
      meanwhile: called once, in the thread of the caller, while the first cases are read.

    Yields:
      (case, future of what `write` returned, or of the exception that any step raised).
    """
    reading = ThreadPoolExecutor(readers, "read")
    writing = ThreadPoolExecutor(writers, "write")
    unwritten: collections.deque[tuple[AnyCase, Future[Any]]] = collections.deque()
    try:
        for case, loaded in _read_ahead(reading, readers, read, cases):
            started = time.monotonic()
            written: Future[Any] = Future()
            try:
                if meanwhile is not None:
                    now, meanwhile = meanwhile, None
                    now()
                prediction = predict(case, loaded.result())
                written = writing.submit(write, prediction, started)
                del prediction
            except Exception as error:
                written.set_exception(error)
            unwritten.append((case, written))
            del loaded
            while len(unwritten) > writers or (unwritten and unwritten[0][1].done()):
                yield unwritten.popleft()
        yield from unwritten
    finally:
        for pool in (reading, writing):
            pool.shutdown(wait=True, cancel_futures=True)


def _read_ahead(
    pool: ThreadPoolExecutor,
    ahead: int,
    read: Callable[[AnyCase], Any],
    cases: Sequence[AnyCase],
) -> Iterator[tuple[AnyCase, Future[Any]]]:
    """Cases and their data, in order; at most `ahead` are being read or wait to be used."""
    waiting: collections.deque[tuple[AnyCase, Future[Any]]] = collections.deque()
    left = iter(cases)
    while True:
        while len(waiting) < ahead and (case := next(left, None)) is not None:
            waiting.append((case, pool.submit(read, case)))
        if not waiting:
            return
        yield waiting.popleft()
