"""The process of a grid's cell: its attempt on record, its output, its log, and its end."""

import contextlib
import dataclasses
import functools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

from brats_jax.runs.documents import CellRecord
from brats_jax.runs.folder import GridFolder
from brats_jax.runs.grid import Cell, read_record
from brats_jax.runtime.console import print_line
from brats_jax.runtime.signals import StopRequests, die_with_parent

# Seconds between two updates of a cell's record with the time spent; a kill loses the last.
NOTE_S = 30.0


class Attempt:
    """One attempt at a cell, and its record in the grid's folder.

    Args:
      grid: the grid's folder.
      cell: the cell.
      command: the command line of the attempt, for the record.

    Attributes:
      number: of the attempt at this cell, from 1.
    """

    def __init__(self, grid: GridFolder, cell: Cell, command: list[str]) -> None:
        self._path = grid.cell_json(cell.name)
        self._before = read_record(grid, cell)
        self._started = self._noted = time.monotonic()
        self.number = (self._before.attempts if self._before else 0) + 1
        self._record = CellRecord(
            cell=cell.name,
            attempts=self.number,
            host=socket.gethostname(),
            process=os.getpid(),
            started=datetime.now().astimezone().isoformat(timespec="seconds"),
            command=tuple(command),
            state="running",
            seconds=0.0,
        )
        self._write(self._record)

    def note(self) -> None:
        """Records the time spent, unless this was done less than NOTE_S ago."""
        if time.monotonic() - self._noted > NOTE_S:
            self._noted = time.monotonic()
            self._write(self._record)

    def end(self, state: str, error: str = "") -> None:
        """Records the end of the attempt."""
        self._write(
            dataclasses.replace(self._record, state=state, error=error, ended_s=time.time())
        )

    def forget(self) -> None:
        """Restores the record from before: another process was faster."""
        if self._before is None:
            self._path.unlink(missing_ok=True)
        else:
            self._before.write(self._path)

    def _write(self, record: CellRecord) -> None:
        seconds = self._before.seconds if self._before else 0.0
        seconds += time.monotonic() - self._started
        dataclasses.replace(record, seconds=round(seconds, 3)).write(self._path)


def run_process(
    command: list[str],
    log: IO[bytes],
    start: int,
    attempt: Attempt,
    stop: StopRequests,
    poll_s: float,
) -> int:
    """Runs a cell to its end and prints its output.

    Args:
      command: of the cell.
      log: gets the output.
      start: length of the log before the attempt.
      attempt: its record is kept up to date.
      stop: a signal to this process is passed on.
      poll_s: seconds between two looks at the output.

    Returns:
      The exit status; negative: the number of the signal that killed the process.
    """
    # The cell writes to the log itself, so that it survives this process. In a session of its
    # own it gets Ctrl-C once, from here.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=functools.partial(die_with_parent, os.getpid()),
    )
    forwarded = False
    with _killed_at_exit(process), Path(log.name).open("rb") as reader:
        reader.seek(start)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(poll_s)
            _print_new_lines(reader)
            attempt.note()
            if process.returncode is not None:
                return process.returncode
            if stop.signal_number is not None and not forwarded:
                forwarded = True
                # SIGPIPE concerns this process's output: a cell, which writes to its log,
                # ignores it.
                closed = stop.signal_number == signal.SIGPIPE
                process.send_signal(signal.SIGTERM if closed else stop.signal_number)


@contextlib.contextmanager
def _killed_at_exit(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _print_new_lines(reader: IO[bytes]) -> None:
    """Prints the whole lines that were added to the log, apart from its indented tables."""
    place = reader.tell()
    new = reader.read()
    whole = new.rfind(b"\n") + 1
    reader.seek(place + whole)
    for line in new[:whole].decode(errors="replace").splitlines():
        if line.strip() and not line.startswith(" "):
            print_line(f"  {line}".rstrip())


def error_line(log: Path, start: int, status: int) -> str:
    """The last error line of an attempt, or the signal that killed it."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [x.strip() for x in file.read().decode(errors="replace").splitlines() if x.strip()]
    if status < 0:
        killed = f"killed by {_signal_name(-status)}"
        return f"{killed}, perhaps for want of memory" if -status == signal.SIGKILL else killed
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [f"status {status}"])[-1].removeprefix("error: ")


def _signal_name(number: int) -> str:
    """'SIGTERM'; 'signal 40' for a real-time signal, which Python does not name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
