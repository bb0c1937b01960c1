"""Runs cases through three steps, each in threads of its own: read, predict, write.

While the device predicts a case, earlier ones are written and, with several readers, the next ones
are read; zlib and NumPy release the interpreter lock. The number of cases in memory is bounded. The
calling thread only waits, so that a signal ends the pipeline at any moment.
"""

import collections
import functools
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

from brats_jax.runtime.signals import received, stop_announcing
from brats_jax.runtime.threads import in_thread, interruptible

AnyCase = TypeVar("AnyCase")

# Seconds for the steps that run when the caller ends the pipeline early. Most writing takes less.
PATIENCE_S = 1.0


class Gate:
    """Lets the part of a step that must not be cut finish; after `close` no such part begins.

    The process may end as soon as `close` returns.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._inside = 0
        self._closed = False

    @contextmanager
    def passed(self) -> Iterator[None]:
        """The part of the step that must not be cut.

        Raises:
          RuntimeError: the gate is closed.
        """
        with self._change:
            if self._closed:
                raise RuntimeError("stopped")
            self._inside += 1
        try:
            yield
        finally:
            with self._change:
                self._inside -= 1
                self._change.notify_all()

    def close(self) -> None:
        """Refuses every later part, and waits for the end of those that have begun."""
        with self._change:
            self._closed = True
            self._change.wait_for(lambda: not self._inside)


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

    At most `readers + writers + 2` cases are in memory. After an early end (the exception of a
    signal, or `close`), steps that take longer than `PATIENCE_S` go on without a result.

    Args:
      cases: in the order of the results.
      read: loads a case, in one of `readers` threads.
      predict: from a case and its loaded data, in one thread.
      write: stores a prediction, in one of `writers` threads; its second argument is the time
        (time.monotonic) at which the case was taken up.
      readers, writers: numbers of threads. With one reader no case is read during a prediction.
      meanwhile: called once, before `predict`, while the first cases are read.

    Yields:
      (case, future of what `write` returned, or of the exception that any step raised).
    """
    reading = ThreadPoolExecutor(readers, "read")
    writing = ThreadPoolExecutor(writers, "write")
    unwritten: collections.deque[tuple[AnyCase, Future[Any]]] = collections.deque()
    running: set[Future[Any]] = set()

    def submit(pool: ThreadPoolExecutor, *call: Any) -> Future[Any]:
        future = pool.submit(*call)
        running.add(future)
        future.add_done_callback(running.discard)
        return future

    try:
        for case, loaded in _loaded(lambda one: submit(reading, read, one), readers, cases):
            started = time.monotonic()
            written: Future[Any] = Future()
            predicting: Future[Any] | None = None
            try:
                if meanwhile is not None:
                    now, meanwhile = meanwhile, None
                    interruptible(now)
                with in_thread(functools.partial(predict, case, loaded.result())) as predicting:
                    # A case is given out when it is written, not when the next one is predicted.
                    while unwritten and not predicting.done():
                        wait([predicting, unwritten[0][1]], return_when=FIRST_COMPLETED)
                        if unwritten[0][1].done():
                            yield unwritten.popleft()
                    written = submit(writing, write, predicting.result(), started)
            except Exception as error:
                written.set_exception(error)
            finally:
                predicting = None  # its result is large, and its error holds this frame
            unwritten.append((case, written))
            del loaded
            while len(unwritten) > writers or (unwritten and unwritten[0][1].done()):
                yield unwritten.popleft()
        yield from unwritten
    except (KeyboardInterrupt, GeneratorExit):
        if received():
            stop_announcing()  # nothing that takes long is waited for
        raise
    finally:
        for pool in (reading, writing):
            pool.shutdown(wait=False, cancel_futures=True)
        if not wait(list(running), PATIENCE_S).not_done:
            for pool in (reading, writing):
                pool.shutdown(wait=True)


def _loaded(
    read: Callable[[AnyCase], Future[Any]],
    at_once: int,
    cases: Sequence[AnyCase],
) -> Iterator[tuple[AnyCase, Future[Any]]]:
    """Cases and their data, in order; `at_once` - 1 of the next ones are read meanwhile."""
    waiting: collections.deque[tuple[AnyCase, Future[Any]]] = collections.deque()
    left = iter(cases)
    while True:
        while len(waiting) < at_once and (case := next(left, None)) is not None:
            waiting.append((case, read(case)))
        if not waiting:
            return
        yield waiting.popleft()
