"""Leaving in good order on SIGTERM and Ctrl-C, and when nobody reads on (`| head`)."""

import ctypes
import os
import signal
import sys
from types import FrameType, TracebackType


class Interrupted(SystemExit):
    """The program was asked to stop and has saved its work; exits with 128 + signal."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)
        self.signal_number = signal_number


class StopRequests:
    """Notes SIGTERM and SIGINT while it is entered, so that a loop can end between two steps.

    A second signal does what it would have done without us.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequests":
        _entered.append(self)
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._previous[number] = signal.signal(number, self._note)
            except ValueError:  # not in the main thread: its owner handles signals
                break
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self._restore()

    def reader_gone(self) -> None:
        """Nobody reads what is printed: to be stopped for, with the shell's status for it."""
        if self.signal_number is None:
            self.signal_number = signal.SIGPIPE

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()
        _entered.remove(self)

    def __bool__(self) -> bool:
        return self.signal_number is not None


_entered: list[StopRequests] = []


def leave_quietly() -> None:
    """After a BrokenPipeError of the standard output: what is printed from now on goes nowhere.

    Where stop requests are listened to, it is one; elsewhere the program ends.

    Raises:
      Interrupted: nothing listens.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())  # what Python still holds of it is flushed at the end
    os.close(nowhere)
    if not _entered:
        raise Interrupted(signal.SIGPIPE)
    for requests in _entered:
        requests.reader_gone()


class Terminated(KeyboardInterrupt):
    """SIGTERM where nothing is saved for it: it ends the program as Ctrl-C does."""


def hear_sigterm() -> None:
    """Has SIGTERM raise `Terminated`, where no `StopRequests` is entered; a second one kills."""

    def terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


# Loaded here, not between fork and exec.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def follow_parent() -> None:
    """For a child process, before its program starts: SIGTERM when its parent is gone.

    Without it a child would live on, unseen, after its parent is killed. On Linux only.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
