"""Lines and progress bars on the terminal."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol, Self

from tqdm import tqdm

from brats_jax.runtime import distributed
from brats_jax.runtime.signals import leave_quietly

FIRST_LINE_S = 60.0  # until a log file hears how far something is


def say(text: str) -> None:
    """Prints a line, above a progress bar if there is one; of several processes the first."""
    if distributed.is_first():
        try:
            tqdm.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            leave_quietly()


class Bar(Protocol):
    """What shows how far something is."""

    n: int

    def update(self, n: int = 1) -> Any:
        """So many more are done."""

    def close(self) -> None:
        """Ends it."""

    def __enter__(self) -> Self:
        """For `with`, which closes it."""

    def __exit__(self, *error: Any) -> Any:
        """Closes it."""


def bar(total: int, title: str, unit: str, first: int = 0) -> Bar:
    """A progress bar with rate and time left; for a log file, now and then a line."""
    if not sys.stderr.isatty():
        return _Lines(total, title, unit, first)
    return tqdm(total=total, initial=first, desc=title, unit=unit, dynamic_ncols=True)


class _Lines:
    """How far it is, after a minute and then whenever half as much time again has passed."""

    def __init__(self, total: int, title: str, unit: str, first: int) -> None:
        self.n, self._first, self._total = first, first, total
        self._title, self._unit = title, unit
        self._start, self._next = time.monotonic(), FIRST_LINE_S

    def update(self, n: int = 1) -> None:
        self.n += n
        elapsed = time.monotonic() - self._start
        if elapsed < self._next or not self._first < self.n < self._total:
            return
        self._next = 1.5 * elapsed
        left = elapsed / (self.n - self._first) * (self._total - self.n)
        say(f"{self._title}: {self._unit} {self.n}/{self._total}  {clock(left)} left")

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        pass


@contextlib.contextmanager
def told_if_slow(text: str, after_s: float = 5.0) -> Iterator[None]:
    """Says `text` if what is done within takes longer than that."""
    timer = threading.Timer(after_s, say, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def clock(seconds: float) -> str:
    """1:05, or 2:03:04."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
