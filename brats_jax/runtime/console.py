"""Lines and progress bars on the terminal."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self

from tqdm import tqdm

from brats_jax.runtime import distributed
from brats_jax.runtime.signals import close_output, discard_output
from brats_jax.runtime.text import duration, escaped_line, printable

FIRST_LINE_S = 60.0  # until a log file gets its first line of progress


def print_line(text: str) -> None:
    """Prints a line above the progress bar, if there is one; only the main process prints.

    Control characters and line ends in it, such as those of a file's name, are shown as escapes.
    """
    print_lines(escaped_line(text))


def print_lines(text: str) -> None:
    """Prints a text of several lines, as `print_line` does one."""
    if distributed.is_main():
        try:
            tqdm.write(printable(text))
            sys.stdout.flush()
        except BrokenPipeError:
            close_output()
        except OSError as error:  # a full disk
            error.filename = "standard output"
            discard_output()  # else Python would print a traceback at exit
            raise


def print_notice(text: str) -> None:
    """Prints a line on standard error as `print_line` does."""
    tqdm.write(escaped_line(text), file=sys.stderr)
    sys.stderr.flush()


class ProgressBar(Protocol):
    """The part of tqdm's interface that callers use."""

    n: int

    def update(self, n: int = 1) -> Any:
        """Adds `n` finished items."""

    def close(self) -> None:
        """Ends the bar."""

    def __enter__(self) -> Self:
        """Returns itself."""

    def __exit__(self, *error: Any) -> Any:
        """Closes the bar."""


def progress_bar(
    total: int,
    title: str,
    unit: str,
    first: int = 0,
    print_to: Callable[[str], None] = print_line,
) -> ProgressBar:
    """Progress with rate and time left: a bar on a terminal, else a line at growing intervals.

    Args:
      total: number of items.
      title: label of the bar.
      unit: name of an item.
      first: items that were finished before.
      print_to: prints a line, where there is no terminal.
    """
    if not sys.stderr.isatty():
        return _ProgressLines(total, title, unit, first, print_to)
    return tqdm(total=total, initial=first, desc=title, unit=unit, dynamic_ncols=True)


class Rate:
    """The time left, from the time that items take.

    The first update only starts the clock: its items may have waited for a compiler.

    Args:
      total: number of items.
    """

    def __init__(self, total: float) -> None:
        self._total = total
        self._n = 0.0
        self._begin: tuple[float, float] | None = None  # items and time of the first update

    def update(self, n: float) -> None:
        """Records that `n` items are finished."""
        self._n = n
        self._begin = self._begin or (n, time.monotonic())

    def time_left(self) -> str:
        """'  2:05 left', or '' where the rate is unknown."""
        if self._begin is None or self._n <= self._begin[0]:
            return ""
        each = (time.monotonic() - self._begin[1]) / (self._n - self._begin[0])
        return f"  {duration(each * (self._total - self._n))} left"


class _ProgressLines:
    """Prints a line after FIRST_LINE_S, then whenever the elapsed time has grown by half."""

    def __init__(
        self, total: int, title: str, unit: str, first: int, print_to: Callable[[str], None]
    ) -> None:
        self.n, self._first, self._total = first, first, total
        self._title, self._unit, self._print = title, unit, print_to
        self._start, self._next = time.monotonic(), FIRST_LINE_S
        self._rate = Rate(total)

    def update(self, n: int = 1) -> None:
        self.n += n
        self._rate.update(self.n)
        elapsed = time.monotonic() - self._start
        if elapsed < self._next or not self._first < self.n < self._total:
            return
        self._next = 1.5 * elapsed
        self._print(f"{self._title}: {self._unit} {self.n}/{self._total}{self._rate.time_left()}")

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        pass


@contextlib.contextmanager
def log_if_slow(text: str, after_s: float = 5.0) -> Iterator[None]:
    """Prints `text` if the body takes longer than `after_s`."""
    timer = threading.Timer(after_s, print_line, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
