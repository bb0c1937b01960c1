"""Orderly ends: on SIGTERM and Ctrl-C, on a closed output pipe, and with the parent process."""

import ctypes
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType


class Interrupted(SystemExit):
    """The program saved its work and ends on request; exit status 128 + signal."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)
        self.signal_number = signal_number


class StopRequests:
    """Records SIGTERM and SIGINT within its body, so that a loop can end between two steps.

    Only the first signal counts: a cluster sends several to each process, within seconds, and
    none of them may end the save that the first one asked for.

    Args:
      notice: printed after Ctrl-C: when the body ends.
    """

    def __init__(self, notice: str = "stopping after this step, then saving") -> None:
        self.notice = notice
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequests":
        _entered.append(self)
        for number in _STOPPING:
            try:
                self._previous[number] = signal.signal(number, self._record)
            except ValueError:  # not the main thread, which alone may set handlers
                break
        return self

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number = number
        if number == signal.SIGINT and not _Command.announces:
            _announce()

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
        if isinstance(error, Interrupted) and _Command.runs:
            _Command.stopped = True
            ignore_signals()

    def __bool__(self) -> bool:
        return self.signal_number is not None


_entered: list[StopRequests] = []

_STOPPING = (signal.SIGTERM, signal.SIGINT)
REPEAT_AFTER_S = 0.1  # from an exception that was lost to the same signal once more
NOTICE_AFTER_S = 0.5  # from Ctrl-C to the notice: most commands end earlier


class _Command:
    """Whether this process is a command of this program, which ends after its first signal.

    Attributes:
      announces: a thread prints the notice after Ctrl-C.
      stopped: all is saved or given up; there is nothing more to announce.
    """

    runs = False
    announces = False
    stopped = False
    signal_number: int | None = None


def received() -> int | None:
    """The signal after which this command ends, outside of `StopRequests`; None if none came.

    A library may turn its exception into another one, such as that of an unreadable file.
    """
    return _Command.signal_number


def stop_announcing() -> None:
    """Prints no notice after Ctrl-C from now on: the command ends, or another process prints it."""
    _Command.stopped = True


def _announce() -> None:
    if _Command.stopped:
        return
    text = "stopping once the running computation ends; Ctrl-\\ ends at once"
    if _entered:
        text = f"{_entered[-1].notice}; Ctrl-\\ ends at once, without saving"
    # Not print: the signal may have interrupted one. A terminal has shown ^C, perhaps after a bar.
    os.write(2, f"{chr(10) * os.isatty(2)}{text}\n".encode())


def _announce_ctrl_c() -> None:
    """Starts a thread that prints a notice if the process still runs a moment after Ctrl-C.

    A handler in Python runs in the main thread between two of its instructions: not before the end
    of a compilation or of a step. The interpreter's own handler writes to `wakeup`, at once.
    """
    signalled, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(signalled, 1):
            if number[0] == signal.SIGINT:
                time.sleep(NOTICE_AFTER_S)
                _announce()

    threading.Thread(target=watch, name="ctrl-c", daemon=True).start()
    _Command.announces = True


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


def raise_on_first_signal() -> None:
    """Raises `Terminated` on SIGTERM and KeyboardInterrupt on SIGINT, outside of `StopRequests`.

    Further ones are ignored, so that the first can clean up. Does nothing outside of the main
    thread, which alone may set handlers. An exception that is lost, because the signal came within
    a callback of the garbage collector or a `__del__`, is raised again a moment later.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        ignore_signals()
        _Command.signal_number = number
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        return
    _Command.runs = True
    for number in _STOPPING:
        # A shell has its background processes ignore Ctrl-C.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    _announce_ctrl_c()
    report = sys.unraisablehook

    def raise_again(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            report(lost)
            return
        number = signal.SIGTERM if issubclass(lost.exc_type, Terminated) else signal.SIGINT
        signal.signal(number, stop)
        # Not at once: an exception within this function would be lost, too.
        repeat = threading.Timer(REPEAT_AFTER_S, os.kill, (os.getpid(), number))
        repeat.daemon = True
        repeat.start()

    sys.unraisablehook = raise_again


def ignore_signals() -> None:
    """Ignores SIGTERM and SIGINT from now on: this process saves or cleans up, and then ends."""
    _set_handlers(signal.SIG_IGN)


def die_on_signals() -> None:
    """Lets SIGTERM and SIGINT end this process at once: all its work is done."""
    _set_handlers(signal.SIG_DFL)


def _set_handlers(handler: signal.Handlers) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in _STOPPING:
            signal.signal(number, handler)


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
