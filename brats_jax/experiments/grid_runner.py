"""Runs the cells of a grid, each in a process of its own.

A crash of a cell, a kill for memory, or memory that it leaves allocated on a device does not affect
the other cells. The grid's own process never uses the devices.
"""

import contextlib
import dataclasses
import itertools
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from brats_jax.data.splits import make_splits
from brats_jax.data.store.reader import Store
from brats_jax.data.store.several_planes import SeveralPlanes, open_planes
from brats_jax.errors import BUSY_STATUS, BratsError, Busy
from brats_jax.experiments import checks, continuation
from brats_jax.experiments import config as experiment_config
from brats_jax.experiments.cell_process import Attempt, error_line, run_process
from brats_jax.experiments.grid_cells import (
    AXES,
    cells_of_shard,
    check_cells,
    extend,
    flags_of,
    parse_axes,
    parse_shard,
)
from brats_jax.experiments.grid_state import summary_line
from brats_jax.experiments.stage_slices import StageSlices
from brats_jax.runs.axes import Axes
from brats_jax.runs.documents import GridConfig
from brats_jax.runs.folder import GridFolder
from brats_jax.runs.grid import (
    Cell,
    enumerate_cells,
    holder,
    is_done,
    progress_of,
    read_cells,
    read_record,
)
from brats_jax.runs.settings import Settings
from brats_jax.runtime import locks
from brats_jax.runtime.console import print_line, print_lines
from brats_jax.runtime.document import read_if_readable
from brats_jax.runtime.files import check_folder, make_folder
from brats_jax.runtime.signals import Interrupted, StopRequests
from brats_jax.runtime.text import plural

# Seconds between the first and the last process of a job that gets a cluster's signal.
SIGNAL_S = 2.0
STOPPED_BY_SIGNAL = (-signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT)


def run_grid(
    grid: GridFolder,
    config: ConfigDict,
    config_file: str,
    overrides: Mapping[str, Any],
    *,
    asked: Mapping[str, Sequence[str]],
    shard: str,
) -> bool:
    """Starts or continues a grid; returns whether all its cells are complete.

    Args:
      grid: its folder.
      config: the settings that its cells share.
      config_file: the file of these settings.
      overrides: name -> value of the settings that differ from the file.
      asked: the axes, arguments of `grid_cells.parse_axes` by name.
      shard: 'i/n', the part to run.

    Raises:
      BratsError: anything that would stop every cell, before the first one starts.
    """
    check_folder(grid.path, "--workdir")
    for name, flag in AXES.items():
        if name in overrides:
            raise BratsError(f"--config.{name} differs within a grid; give {flag} instead")
    settings = experiment_config.parse(config)
    if settings.trains_on_all:
        raise BratsError(
            "config.folds=all trains on all patients and leaves none to evaluate on, so that the "
            "cells of a grid could not be compared: give folds here, and train the final model "
            "with brats_jax.main"
        )
    axes = parse_axes(folds=config.folds, shared=settings, **asked)  # type: ignore[arg-type]
    index, count = parse_shard(shard)
    check_cells(config, axes)
    checks.check_workdir(settings, grid.path)
    started = read_if_readable(grid.grid_json, GridConfig)
    store, planes = _checked_data(settings, axes, started.store.fingerprint if started else "")
    make_folder(grid.path, "--workdir")
    begun = continuation.as_begun(settings, started.config if started else None)
    if begun.data.selection != settings.data.selection:
        overrides = {**overrides, "data.selection": begun.data.selection}
    settings = begun
    extend(grid, settings, store, axes, planes)

    everything = enumerate_cells([axes])
    mine = cells_of_shard(everything, index, count)
    part = f", of which {len(mine)} are run here (--shard={index}/{count})" if count > 1 else ""
    print_line(f"grid: {plural(len(everything), 'cell')}{part}")
    command = _cell_command(config_file, overrides, grid)
    failed = GridRunner(grid, mine, command).run()
    if not failed:
        print_line(f"grid: all {plural(len(mine), 'cell')} done")
        return True
    print_lines("")
    print_line(f"grid: {plural(len(failed), 'cell')} failed; the same command repeats them:")
    for cell, error in failed.items():
        print_line(f"  {cell.name}: {error}")
        print_line(f"    {shlex.join(command(cell))}")
    return False


def _checked_data(
    settings: Settings, axes: Axes, fingerprint: str
) -> tuple[Store, SeveralPlanes | None]:
    """Opens the data of a grid, and refuses settings that do not fit them (BratsError).

    Args:
      settings: those that all cells share.
      axes: those that this command asks for.
      fingerprint: of the store when the grid was started, whose patients it keeps to, though
        sources were added since; '' for a new grid.

    Returns:
      (the store, the same with those of other planes or None).
    """
    store = Store.open(Path(settings.data.store)).as_of(fingerprint)
    planes = open_planes(store, settings.data.other_stores)
    checks.check_evaluated_planes(settings, store, planes)
    checks.check_patches(settings, store)
    checks.check_labels(store, "train")
    splits = make_splits(store, **experiment_config.split_options(settings))
    for fold, patients in itertools.product(axes.folds, axes.patients):
        budget = settings.with_value("data", "label_patients", patients)
        StageSlices.of(budget, store, splits, fold).check_labels()
    return store, planes


def _cell_command(
    config_file: str, overrides: Mapping[str, Any], grid: GridFolder
) -> Callable[[Cell], list[str]]:
    """The command line of a cell: the settings of the grid, then the cell's own."""
    given = [
        # A tuple is written as in Python, also when it is empty or has one item.
        f"--config.{name}={value if isinstance(value, str) else repr(value)}"
        for name, value in overrides.items()
        if name != "folds"
    ]
    start = [sys.executable, "-m", "brats_jax.main", f"--config={config_file}", *given]
    return lambda cell: [*start, *flags_of(cell, grid)]


class GridRunner:
    """Runs the cells of one worker.

    Args:
      grid: the grid's folder.
      cells: the cells of this worker, in order.
      command: returns the command line of a cell.
      poll_s: seconds between two looks at the output of the running cell.
      wait_s: seconds between two looks at the cells of other workers.

    Attributes:
      failed: the error line of every cell that failed.
    """

    def __init__(
        self,
        grid: GridFolder,
        cells: Sequence[Cell],
        command: Callable[[Cell], list[str]],
        *,
        poll_s: float = 0.2,
        wait_s: float = 5.0,
    ) -> None:
        self.grid, self.cells, self.command = grid, list(cells), command
        self.poll_s, self.wait_s = poll_s, wait_s
        self.failed: dict[Cell, str] = {}
        # By number, because the clocks of two machines differ.
        self._ended_attempts = {cell: self._count_ended(cell) for cell in self._needed()}
        self._printed: set[str] = set()

    def run(self) -> dict[Cell, str]:
        """Runs the cells that are left, and continues after failures.

        A cell that another process works on is postponed until all others are settled; so is a
        cell whose pretraining another process works on.

        Returns:
          The error line of every cell that failed.

        Raises:
          Interrupted: after SIGTERM or Ctrl-C, once the running cell has saved and ended.
        """
        with StopRequests("stopping once the running cell has saved") as stop:
            left = [cell for cell in self.cells if not is_done(self.grid, cell)]
            complete = len(self.cells) - len(left)
            if complete:
                print_line(
                    f"grid: {complete} of {plural(len(self.cells), 'cell')} complete, skipped"
                )
                self._end_records()
            while left:
                busy = [cell for cell in left if not self._settle(cell, stop)]
                if len(busy) == len(left):
                    self._wait(stop)
                left = busy
        return self.failed

    def _end_records(self) -> None:
        """Records as done the complete cells whose worker was killed before it did."""
        for cell in self.cells:
            record = read_record(self.grid, cell)
            if record is None or record.state == "done" or not is_done(self.grid, cell):
                continue
            with (
                contextlib.suppress(Busy),
                locks.hold(self.grid.cell_lock(cell.name), cell.name),
            ):
                ended = record.ended_s or time.time()
                done = dataclasses.replace(record, state="done", error="", ended_s=ended)
                done.write(self.grid.cell_json(cell.name))

    def _settle(self, cell: Cell, stop: StopRequests) -> bool:
        """Whether the cell is now done or has failed; False: another process works on it."""
        if stop.signal_number is not None:
            raise Interrupted(stop.signal_number)
        if cell in self.failed or is_done(self.grid, cell):
            return True
        process = holder(self.grid, cell)
        if process is not None:
            self._print_once(f"{cell.name}: in use by {process}; postponed")
            return False
        error = self._failed_elsewhere(cell)
        if error is not None:
            self.failed[cell] = error
            return True
        source = cell.source
        if source is not None:
            if not self._settle(source, stop):
                self._print_once(f"{cell.name}: waits for {source.name}")
                return False
            if source in self.failed:
                self.failed[cell] = f"not started: {source.name}, which it needs, failed"
                print_line(f"grid: {cell.name}: {self.failed[cell]}")
                return True
        return self._claim_and_run(cell, stop)

    def _claim_and_run(self, cell: Cell, stop: StopRequests) -> bool:
        """Runs the cell unless another worker of the grid has just claimed it.

        The cell's own process locks its folder only after it has loaded its libraries.
        """
        try:
            with locks.hold(self.grid.cell_lock(cell.name), cell.name):
                # Another worker may have run it between the check and the lock.
                if is_done(self.grid, cell):
                    return True
                settled = self._run_cell(cell, stop)
        except Busy:
            return False
        if settled:
            self._print_summary()
        return settled

    def _failed_elsewhere(self, cell: Cell) -> str | None:
        """The error of another worker's attempt that ended after this worker began."""
        record = read_record(self.grid, cell)
        if record is None or record.state != "failed":
            return None
        return record.error if record.attempts > self._ended_attempts.get(cell, 0) else None

    def _needed(self) -> set[Cell]:
        """The cells of this worker, and the pretrainings that they start from."""
        return {*self.cells, *(cell.source for cell in self.cells if cell.source is not None)}

    def _count_ended(self, cell: Cell) -> int:
        """How many attempts at the cell have ended so far."""
        record = read_record(self.grid, cell)
        return record.attempts - (record.state == "running") if record else 0

    def _print_once(self, text: str) -> None:
        if text not in self._printed:
            self._printed.add(text)
            print_line(f"grid: {text}")

    def _wait(self, stop: StopRequests) -> None:
        until = time.monotonic() + self.wait_s
        while time.monotonic() < until:
            if stop.signal_number is not None:
                raise Interrupted(stop.signal_number)
            time.sleep(min(self.poll_s, self.wait_s))

    def _run_cell(self, cell: Cell, stop: StopRequests) -> bool:
        """Whether the cell was run; False: another process is at work in its folder."""
        command, log = self.command(cell), self.grid.cell_log(cell.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        print_line(f"grid: {cell.name} (log: {log})")
        attempt = Attempt(self.grid, cell, command)
        with log.open("ab") as file:
            file.write(
                f"# attempt {attempt.number}: {shlex.join(command)}\n".encode(
                    errors="surrogateescape"
                )
            )
            file.flush()
            start = file.tell()
            status = run_process(command, file, start, attempt, stop, self.poll_s)
        if status == BUSY_STATUS:
            attempt.forget()
            return False
        if status == 0 and is_done(self.grid, cell):
            attempt.end("done")
            return True
        if status in STOPPED_BY_SIGNAL:
            _await_signal(stop)
        if stop.signal_number is not None:
            attempt.end("stopped")
            print_line(f"grid: stopped in {cell.name}; the same command continues from there")
            raise Interrupted(stop.signal_number)
        self.failed[cell] = error_line(log, start, status)
        attempt.end("failed", self.failed[cell])
        print_line(f"grid: {cell.name} FAILED: {self.failed[cell]}")
        return True

    def _print_summary(self) -> None:
        progress = [progress_of(self.grid, cell) for cell in read_cells(self.grid)]
        others = sum(p.state == "running" for p in progress)
        print_line(f"grid: {summary_line(progress, others + 1)}")


def _await_signal(stop: StopRequests) -> None:
    """Waits until this process, too, gets the signal that ended its cell; not for long."""
    until = time.monotonic() + SIGNAL_S
    while stop.signal_number is None and time.monotonic() < until:
        time.sleep(0.02)
