"""The cells of a grid, and how far each of them is.

A cell is one training: the pretraining of a fold, or a segmentation of a fold with one loss, with
or without pretraining, with one share of the labels and one seed. Cells that differ in the fold
alone are the folds of one run folder.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brats_jax.errors import BratsError
from brats_jax.runs import evaluated
from brats_jax.runs.documents import Axes, CellRecord, GridConfig, StageResult, StageTraining
from brats_jax.runs.folder import (
    FoldFolder,
    GridFolder,
    RunFolder,
    StageFolder,
    checkpoint_steps,
    fold_name,
    pretraining_in_grid,
    run_in_grid,
)
from brats_jax.runs.metrics_jsonl import read_metrics
from brats_jax.runtime import locks
from brats_jax.runtime.document import read_document, read_if_readable

STATES = ("done", "running", "failed", "left")


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
      stage: 'pretrain' or 'segment'.
      seed, fold: its seed and fold.
      loss, ssl, percent: of a segmentation: its loss, whether it starts from the fold's
        pretraining, the percentage of training patients whose labels it uses.
    """

    stage: str
    seed: int
    fold: int
    loss: str = ""
    ssl: bool = False
    percent: int = 100

    @property
    def run(self) -> Path:
        """The cell's run folder, within the grid's."""
        if self.stage == "pretrain":
            return pretraining_in_grid(self.seed)
        start = "ssl" if self.ssl else "base"
        return run_in_grid(f"{self.loss}-{start}-labels_{self.percent:03}-seed_{self.seed}")

    @property
    def name(self) -> str:
        """Unique in the grid; a valid file name."""
        run = f"pretraining-{self.run.name}" if self.stage == "pretrain" else self.run.name
        return f"{run}-{fold_name(self.fold)}"

    @property
    def directory(self) -> Path:
        """The cell's fold folder, within the grid's."""
        return RunFolder(self.run).fold(self.fold).path

    @property
    def source(self) -> "Cell | None":
        """The pretraining that must be complete before this cell can start."""
        return Cell("pretrain", self.seed, self.fold) if self.ssl else None

    def fold_folder(self, grid: GridFolder) -> FoldFolder:
        """Its fold's folder."""
        return grid.run(self.run).fold(self.fold)

    def stage_folder(self, grid: GridFolder) -> StageFolder:
        """Its stage's folder."""
        return self.fold_folder(grid).stage(self.stage)


@dataclass(frozen=True)
class Progress:
    """How far a cell is.

    Attributes:
      cell: the cell.
      state: one of STATES.
      share: of its steps, in [0, 1], as far as they are logged or saved.
      seconds: spent on it in all attempts; None if unknown.
      note: of a running cell its process and step, of a failed one its error, of one that is left
        'begun' if it is.
    """

    cell: Cell
    state: str
    share: float
    seconds: float | None
    note: str = ""


def enumerate_cells(parts: Sequence[Axes]) -> list[Cell]:
    """All cells of all parts, each once, in the order in which a grid runs them.

    Pretrainings come first, because others wait for them; then all cells without pretraining; then
    those with it, fold by fold, so that whole comparisons of a fold are complete early.
    """
    pretrainings: dict[Cell, None] = {}
    without: dict[Cell, None] = {}
    with_: dict[Cell, None] = {}
    for axes in parts:
        for seed, fold in itertools.product(axes.seeds, axes.folds):
            if True in axes.ssl:
                pretrainings[Cell("pretrain", seed, fold)] = None
            for percent, loss in itertools.product(axes.percents, axes.losses):
                for ssl in axes.ssl:
                    cell = Cell("segment", seed, fold, loss, ssl, percent)
                    (with_ if ssl else without)[cell] = None
    return [*pretrainings, *without, *with_]


def read_cells(grid: GridFolder) -> list[Cell]:
    """All cells that the grid was asked for.

    Raises:
      BratsError: no grid there, or its grid.json cannot be read.
    """
    if not grid.exists:
        raise BratsError(f"{grid.path}: no grid there; give the folder of one as --workdir")
    return enumerate_cells(read_document(grid.grid_json, GridConfig).axes)


def is_done(grid: GridFolder, cell: Cell) -> bool:
    """Whether the cell is trained to the end, and its best checkpoint evaluated."""
    result = read_if_readable(cell.stage_folder(grid).complete_json, StageResult)
    if result is None:
        return False
    return evaluated.is_current(cell.fold_folder(grid), {cell.stage: result.best_step})


def holder(grid: GridFolder, cell: Cell) -> str | None:
    """The process that works on the cell now, if any: its training, or the grid's before it."""
    locked = locks.holder(cell.fold_folder(grid).lock)
    return locked or locks.holder(grid.cell_lock(cell.name))


def read_record(grid: GridFolder, cell: Cell) -> CellRecord | None:
    """The attempts at the cell; None if there is no readable record."""
    return read_if_readable(grid.cell_json(cell.name), CellRecord)


def progress_of(grid: GridFolder, cell: Cell) -> Progress:
    """How far a cell is, from the files in its folders; needs no device."""
    record = read_record(grid, cell)
    seconds = record.seconds if record else None
    if is_done(grid, cell):
        return Progress(cell, "done", 1.0, seconds)
    stage = cell.stage_folder(grid)
    training = read_if_readable(stage.training_json, StageTraining)
    total = training.steps if training else 0
    # The newest checkpoint may be older than the last logged step, or come before any.
    logged = [record["step"] for record in read_metrics(stage.metrics_jsonl)]
    step = max([*logged, *checkpoint_steps(stage.last)], default=0)
    share = min(1.0, step / total) if total else 0.0
    process = holder(grid, cell)
    if process is not None:
        place = f"step {step} of {total or '?'} ({share:.0%})"
        place = "evaluating" if stage.is_complete else place
        return Progress(cell, "running", share, seconds, f"{place}, {process}")
    if record and record.state == "failed":
        return Progress(cell, "failed", share, seconds, record.error or "")
    return Progress(cell, "left", share, seconds, "begun" if stage.path.exists() else "")
