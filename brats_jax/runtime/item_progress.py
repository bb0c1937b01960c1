"""Progress of items that take long, such as cases: it also moves within an item."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from tqdm import tqdm

from brats_jax.runtime.console import Rate, print_line
from brats_jax.runtime.text import escaped_line

FIRST_LINE_S = 5.0  # without a line, until a log file gets the first one of progress
TICK_S = 1.0

Progress = Callable[[float], None]  # takes the share of the work that is done, 0 to 1


def part_of(progress: Progress | None, number: int, count: int) -> Progress | None:
    """The progress of part `number`, from 0, of a work that has `count` equal parts."""
    if progress is None:
        return None
    return lambda share: progress((number + share) / count)


class ItemProgress:
    """A bar on a terminal, which moves within an item; else a line now and then.

    A log gets a line after FIRST_LINE_S, if no item is finished before, and each further one when
    no item is finished for twice as long: the lines are few, however many items there are. A thread
    prints them, because the work may wait for a compiler. The methods are called from any thread.

    Args:
      total: number of items.
      unit: name of an item.
      print_to: prints a line, where there is no terminal.
    """

    def __init__(self, total: int, unit: str, print_to: Callable[[str], None] = print_line) -> None:
        self._total, self._unit, self._print = total, unit, print_to
        # The lock of the state is never held while the terminal is written to: a terminal that is
        # paused (Ctrl-S) would stop the work.
        self._lock, self._drawing, self._end = threading.Lock(), threading.Lock(), threading.Event()
        self._finished = self._computed = 0
        self._what = self._item = ""
        self._share, self._rate = 0.0, Rate(1)
        self._silent_since, self._wait = time.monotonic(), FIRST_LINE_S
        self._error: BaseException | None = None
        self._bar: Any = None

    def doing(self, what: str) -> None:
        """Sets what is shown while no item is computed, such as 'reading A'."""
        with self._lock:
            self._what = what

    def part(self, item: str, share: float) -> None:
        """Sets the share of an item that is computed, 0 to 1."""
        with self._lock:
            if item != self._item:
                self._item, self._rate = item, Rate(1)
            self._share = share
            if share:
                self._rate.update(share)

    def computed(self) -> None:
        """Counts the item as computed, but not finished yet."""
        with self._lock:
            self._computed += 1
            self._item, self._share = "", 0.0

    def update(self) -> None:
        """Counts an item as finished, once the caller has printed a line on it."""
        with self._lock:
            self._finished += 1
            if self._finished > self._computed:  # an item that failed
                self._computed, self._item, self._share = self._finished, "", 0.0
            self._silent_since = time.monotonic()
            error, self._error = self._error, None
        if self._bar is not None:
            self._refresh()
        if error is not None:
            raise error

    def tick(self) -> None:
        """Shows the state, if it is time to."""
        if self._bar is not None:
            self._refresh()
            return
        with self._lock:
            state, now = self._state(), time.monotonic()
            if not state or now - self._silent_since < self._wait:
                return
            self._silent_since, self._wait = now, 2 * self._wait
        self._print(state)

    @property
    def _number(self) -> int:
        """The item that is computed; if none is, the first one that is not finished."""
        return min(self._total, 1 + (self._computed if self._item else self._finished))

    def _state(self) -> str:
        number = f" ({self._unit} {self._number} of {self._total})" * (self._total > 1)
        if not self._item:
            return f"{self._what}{number}" if self._what else ""
        left = self._rate.time_left().strip()
        return f"computing {self._item}{number}: {self._share:.0%}{left and f', {left}'}"

    def _refresh(self) -> None:
        with self._lock:
            number = f"{self._unit} {self._number}/{self._total}"
            share = f" {self._share:.0%}" * (self._total > 1)  # else it is that of the bar
            what = f"{self._item}{share}" if self._item else self._what
            finished = min(self._computed + self._share, self._total)
            done = self._finished == self._total
        with self._drawing:
            self._bar.n = finished
            self._bar.set_description_str(number + f": {escaped_line(what)}" * (not done), False)
            self._bar.refresh()

    def _run(self) -> None:
        try:
            while not self._end.wait(TICK_S):
                self.tick()
        except BaseException as error:  # of a closed pipe or a full disk
            self._error = error

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and self._total:
            shape = "{desc} {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"
            # No smoothing: the rate is that of all items, not of the last moment.
            self._bar = tqdm(total=self._total, bar_format=shape, smoothing=0, dynamic_ncols=True)
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._end.set()
        self._thread.join(TICK_S)
        if self._bar is not None:
            self._bar.close()
        if self._error is not None and error[0] is None:
            raise self._error
