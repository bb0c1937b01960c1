"""Works through the cells of a grid, each in a process of its own.

A crash, a kill for memory or what a cell leaves on the device cannot then take the others
along. This process never touches the devices.
"""

import contextlib
import functools
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from ml_collections import ConfigDict

from brats_jax.data.splits import make_splits
from brats_jax.data.store.reader import Store
from brats_jax.errors import BUSY_STATUS, BratsError, Busy
from brats_jax.experiments import config as settings
from brats_jax.experiments import grid_state
from brats_jax.experiments.grid_cells import (
    AXES,
    Cell,
    enumerate_cells,
    parse_axes,
    parse_shard,
    share,
)
from brats_jax.runtime import locks
from brats_jax.runtime.console import print_line
from brats_jax.runtime.files import check_folder, make_folder, write_json
from brats_jax.runtime.signals import Interrupted, StopRequests, die_with_parent
from brats_jax.runtime.text import plural

# Seconds between two looks: at the cell's output, at other workers' cells; and between two
# notes of the time spent, of which a kill loses the last.
LISTEN_S = 0.2
WAIT_S = 5.0
NOTE_S = 30.0


def run_grid(
    grid: Path,
    config: ConfigDict,
    config_file: str,
    overrides: Mapping[str, Any],
    *,
    losses: Sequence[str],
    ssl: Sequence[str],
    fractions: Sequence[str],
    seeds: Sequence[str],
    shard: str,
) -> bool:
    """Starts or continues a grid; returns whether all its cells are complete.

    Args:
      grid: its folder.
      config: the settings that its cells share.
      config_file: the file of these settings.
      overrides: name -> value of the settings that differ from the file.
      losses, ssl, fractions, seeds: the axes, see `grid_cells.parse_axes`.
      shard: 'i/n', the part to run.

    Raises:
      BratsError: anything that would stop every cell, before the first one starts.
    """
    check_folder(grid, "--workdir")
    for name, flag in AXES.items():
        if name in overrides:
            raise BratsError(f"--config.{name} differs within a grid; give {flag} instead")
    axes = parse_axes(losses, ssl, fractions, seeds, config.folds)
    index, count = parse_shard(shard)
    for loss in axes.losses:
        config.loss = loss
        settings.check(config)
    settings.check_workdir(config, grid)
    store = Store.open(Path(config.data.store))
    settings.check_patches(config, store)
    make_splits(store, **settings.split_options(config))
    make_folder(grid, "--workdir")
    grid_state.extend(grid, json.loads(config.to_json_best_effort()), store, axes)

    everything = enumerate_cells([axes])
    mine = share(everything, index, count)
    part = f", of which {len(mine)} are run here (--shard={index}/{count})" if count > 1 else ""
    print_line(f"grid: {plural(len(everything), 'cell')}{part}")
    command = _cell_command(config_file, overrides, grid)
    failed = GridRunner(grid, mine, command).run()
    if failed:
        print_line(f"\ngrid: {plural(len(failed), 'cell')} failed; the same command repeats them:")
        for cell, error in failed.items():
            print_line(f"  {cell.name}: {error}\n    {shlex.join(command(cell))}")
        return False
    print_line(f"grid: all {plural(len(mine), 'cell')} done")
    return True


def _cell_command(
    config_file: str, overrides: Mapping[str, Any], grid: Path
) -> Callable[[Cell], list[str]]:
    """The command line of a cell: the settings of the grid, then the cell's own."""
    given = [
        # A tuple is written as in Python, also when it is empty or has one item.
        f"--config.{name}={value if isinstance(value, str) else repr(value)}"
        for name, value in overrides.items()
        if name != "folds"
    ]
    start = [sys.executable, "-m", "brats_jax.main", f"--config={config_file}", *given]
    return lambda cell: [*start, *cell.flags(grid)]


class GridRunner:
    """Does the cells of one worker.

    Args:
      grid: the grid's folder.
      cells: those to do, in order.
      command: the command line of a cell.
    """

    def __init__(
        self, grid: Path, cells: Sequence[Cell], command: Callable[[Cell], list[str]]
    ) -> None:
        self.grid, self.cells, self.command = grid, list(cells), command
        self.failed: dict[Cell, str] = {}
        self._began = time.time()
        self._said: set[str] = set()

    def run(self) -> dict[Cell, str]:
        """Does what is left to do, going on past failures.

        A cell that another process is at is left to it, and looked at again when all others
        are done; so is one whose pretraining another process is at.

        Returns:
          The error line of every cell that failed.

        Raises:
          Interrupted: after SIGTERM or Ctrl-C, once the cell at work has saved and left.
        """
        with StopRequests() as stop:
            left = [cell for cell in self.cells if not grid_state.is_done(self.grid, cell)]
            complete = len(self.cells) - len(left)
            if complete:
                print_line(
                    f"grid: {complete} of {plural(len(self.cells), 'cell')} complete, skipped"
                )
            while left:
                busy = [cell for cell in left if not self._settle(cell, stop)]
                if len(busy) == len(left):
                    self._wait(stop)
                left = busy
        return self.failed

    def _settle(self, cell: Cell, stop: StopRequests) -> bool:
        """Whether the cell is done or has failed; False: another process works on it."""
        if stop.signal_number is not None:
            raise Interrupted(stop.signal_number)
        if cell in self.failed or grid_state.is_done(self.grid, cell):
            return True
        by = grid_state.holder(self.grid, cell)
        if by is not None:
            self._say_once(f"{cell.name}: in use by {by}; postponed")
            return False
        error = self._failed_elsewhere(cell)
        if error is not None:
            self.failed[cell] = error
            return True
        source = cell.source
        if source is not None:
            if not self._settle(source, stop):
                self._say_once(f"{cell.name}: waits for {source.name}")
                return False
            if source in self.failed:
                self.failed[cell] = f"not started: {source.name}, which it needs, failed"
                print_line(f"grid: {cell.name}: {self.failed[cell]}")
                return True
        return self._claim_and_run(cell, stop)

    def _claim_and_run(self, cell: Cell, stop: StopRequests) -> bool:
        """Runs the cell unless another worker of the grid has taken it in hand just now.

        The cell locks its folder by itself, but only once its libraries are loaded.
        """
        try:
            with locks.hold(grid_state.claim_path(self.grid, cell), cell.name):
                # Between our look and our hold another may have begun it, and even ended it.
                if grid_state.is_done(self.grid, cell):
                    return True
                settled = self._run_cell(cell, stop)
        except Busy:
            return False
        if settled:
            self._say_summary()
        return settled

    def _failed_elsewhere(self, cell: Cell) -> str | None:
        """The error with which another worker has tried the cell since this one began."""
        record = grid_state.read_record(self.grid, cell)
        if record.get("state") == "failed" and record.get("ended_s", 0) > self._began:
            return str(record.get("error"))
        return None

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            print_line(f"grid: {text}")

    def _wait(self, stop: StopRequests) -> None:
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            if stop.signal_number is not None:
                raise Interrupted(stop.signal_number)
            time.sleep(min(LISTEN_S, WAIT_S))

    def _run_cell(self, cell: Cell, stop: StopRequests) -> bool:
        command = self.command(cell)
        log = self.grid / "logs" / f"{cell.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        print_line(f"grid: {cell.name} (log: {log})")
        record = _Record(self.grid, cell, command)
        with log.open("ab") as file:
            file.write(f"# attempt {record.attempts}: {shlex.join(command)}\n".encode())
            file.flush()
            start = file.tell()
            status = _run_process(command, file, log, start, record, stop)
        if status == BUSY_STATUS:
            record.forget()
            return False
        if status == 0 and grid_state.is_done(self.grid, cell):
            record.end("done")
        elif stop.signal_number is not None:
            record.end("stopped")
            print_line(f"grid: stopped in {cell.name}; the same command goes on from there")
            raise Interrupted(stop.signal_number)
        else:
            self.failed[cell] = _error_line(log, start, status)
            record.end("failed", self.failed[cell])
            print_line(f"grid: {cell.name} FAILED: {self.failed[cell]}")
        return True

    def _say_summary(self) -> None:
        progress = [grid_state.look(self.grid, cell) for cell in grid_state.cells_of(self.grid)]
        others = sum(p.state == "running" for p in progress)
        print_line(f"grid: {grid_state.summary_line(progress, others + 1)}")


class _Record:
    """The bookkeeping of one attempt at a cell."""

    def __init__(self, grid: Path, cell: Cell, command: list[str]) -> None:
        self._path = grid_state.record_path(grid, cell)
        self._before = grid_state.read_record(grid, cell)
        self._started = time.monotonic()
        self._noted = self._started
        self.attempts = int(self._before.get("attempts", 0)) + 1
        self._document: dict[str, Any] = {
            "schema": "brats_jax.cell",
            "version": 1,
            "cell": cell.name,
            "attempts": self.attempts,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "command": command,
        }
        self._write({"state": "running"})

    def note(self) -> None:
        """Writes the time spent, now and then."""
        if time.monotonic() - self._noted > NOTE_S:
            self._noted = time.monotonic()
            self._write({"state": "running"})

    def end(self, state: str, error: str = "") -> None:
        self._write({"state": state, "error": error, "ended_s": time.time()})

    def forget(self) -> None:
        """Another process was quicker: this was no attempt."""
        write_json(self._path, self._before)

    def _write(self, values: dict[str, Any]) -> None:
        seconds = self._before.get("seconds", 0.0) + time.monotonic() - self._started
        write_json(self._path, {**self._document, **values, "seconds": round(seconds, 1)})


def _run_process(
    command: list[str], file: IO[bytes], log: Path, start: int, record: _Record, stop: StopRequests
) -> int:
    # It writes to the log itself: were it to write to us, it would fall with us. In a session
    # of its own, Ctrl-C reaches it once, from us.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=functools.partial(die_with_parent, os.getpid()),
    )
    forwarded = False
    with _ended_with_us(process), log.open("rb") as reader:
        reader.seek(start)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LISTEN_S)
            _echo(reader)
            record.note()
            if process.returncode is not None:
                return process.returncode
            if stop.signal_number is not None and not forwarded:
                forwarded = True
                # A lost reader is ours: it writes to its log, and would not hear of it.
                gone = stop.signal_number == signal.SIGPIPE
                process.send_signal(signal.SIGTERM if gone else stop.signal_number)


@contextlib.contextmanager
def _ended_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _echo(reader: IO[bytes]) -> None:
    """Says the whole lines that have been added."""
    place = reader.tell()
    new = reader.read()
    whole = new.rfind(b"\n") + 1
    reader.seek(place + whole)
    for line in new[:whole].decode(errors="replace").splitlines():
        print_line(f"  {line}".rstrip())


def _error_line(log: Path, start: int, status: int) -> str:
    """What an attempt said last, or what it died of."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [x.strip() for x in file.read().decode(errors="replace").splitlines() if x.strip()]
    if status < 0:
        died = f"killed by {signal.Signals(-status).name}"
        return f"{died}, perhaps for want of memory" if -status == signal.SIGKILL else died
    said = [line for line in lines if line.startswith("error: ")] or lines or [f"status {status}"]
    return said[-1].removeprefix("error: ")
