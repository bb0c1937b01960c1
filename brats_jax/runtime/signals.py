"""Orderly ends: on SIGTERM and Ctrl-C, on a closed output pipe, and with the parent process."""

import ctypes
import os
import signal
import sys
import threading
from types import FrameType, TracebackType


class Interrupted(SystemExit):
    """The program saved its work and ends on request; exit status 128 + signal."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)
        self.signal_number = signal_number


class StopRequests:
    """Records SIGTERM and SIGINT within its body, so that a loop can end between two steps.

    A second signal has its usual effect.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequests":
        _entered.append(self)
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._previous[number] = signal.signal(number, self._record)
            except ValueError:  # not the main thread, which alone may set handlers
                break
        return self

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self._restore()

    def output_closed(self) -> None:
        """Requests a stop because the output pipe is closed, with the shell's status for it."""
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


def close_output() -> None:
    """Discards further output, after a BrokenPipeError of the standard output (`| head`).

    Requests a stop from every entered `StopRequests`.

    Raises:
      Interrupted: none is entered.
    """
    discard_output()
    if not _entered:
        raise Interrupted(signal.SIGPIPE)
    for requests in _entered:
        requests.output_closed()


def discard_output() -> None:
    """Redirects the standard output to nowhere, also what Python flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class Terminated(KeyboardInterrupt):
    """SIGTERM outside of `StopRequests`: ends the program as Ctrl-C does."""


def raise_on_sigterm() -> None:
    """Raises `Terminated` on SIGTERM outside of `StopRequests`; a second SIGTERM kills.

    Does nothing outside of the main thread, which alone may set handlers.
    """

    def terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)


# Loaded at import, because a child may not load libraries between fork and exec.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Has the kernel send this child process SIGTERM when its parent ends. Linux only.

    A child would otherwise outlive a parent that is killed. Call it first thing in the child:
    as `preexec_fn` of `subprocess.Popen`, or as initializer of a pool of processes.

    Args:
      parent: the parent's process id, to notice its end before this call.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
