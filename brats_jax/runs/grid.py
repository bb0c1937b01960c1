"""The cells of a grid, and how far each of them is.

A cell is one training: a pretraining of a fold, or a segmentation of a fold with one loss, with or
without pretraining, with one label budget and one seed. Cells that differ in the fold alone are the
folds of one run folder. Segmentations share a pretraining with the same settings.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from brats_jax.errors import BratsError
from brats_jax.runs import evaluated
from brats_jax.runs.axes import AS_SET, Axes
from brats_jax.runs.documents import CellRecord, GridConfig, StageResult, StageTraining
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
      loss: the loss of a segmentation.
      ssl: whether a segmentation starts from the pretraining of its fold.
      percent: the percentage of the training patients whose labels a segmentation uses.
      patients: the number of these patients, in place of `percent`; 0: `percent` decides.
      pretext, unlabelled: the settings of the pretraining, which a segmentation that starts from it
        has too; see `Axes`.
      transfer: the parts that such a segmentation takes; '': as the settings say.
    """

    stage: str
    seed: int
    fold: int
    loss: str = ""
    ssl: bool = False
    percent: int = 100
    patients: int = 0
    pretext: str = ""
    unlabelled: int = AS_SET
    transfer: str = ""

    @property
    def run(self) -> Path:
        """The cell's run folder, within the grid's."""
        # Names of cells without the axes that were added after version 0.1.0 are as there.
        pretraining = [self.pretext.replace("+", "-")] if self.pretext else []
        if self.unlabelled != AS_SET:
            pretraining.append(f"unlabelled_{self.unlabelled:03}")
        seed = f"seed_{self.seed}"
        if self.stage == "pretrain":
            return pretraining_in_grid("-".join([*pretraining, seed]))
        transfer = [self.transfer] if self.transfer else []
        start = "ssl" if self.ssl else "base"
        labels = f"labels_{self.percent:03}"
        if self.patients:
            labels = f"patients_{self.patients:03}"
        return run_in_grid("-".join([self.loss, start, *pretraining, *transfer, labels, seed]))

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
        if not self.ssl:
            return None
        own = {"pretext": self.pretext, "unlabelled": self.unlabelled}
        return Cell("pretrain", self.seed, self.fold, **own)  # type: ignore[arg-type]

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
      share: the share of its steps that is logged or saved, in [0, 1].
      seconds: spent on it in all attempts; None if unknown.
      note: the process and the step of a running cell; the error of a failed one; 'begun' for one
        that is left, if its training has begun; otherwise ''.
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
    from_scratch: dict[Cell, None] = {}
    after_pretraining: dict[Cell, None] = {}
    for axes in parts:
        for seed, fold in itertools.product(axes.seeds, axes.folds):
            budgets = [(percent, 0) for percent in axes.percents]
            budgets += [(100, patients) for patients in axes.patients]
            for (percent, patients), loss in itertools.product(budgets, axes.losses):
                plain = Cell("segment", seed, fold, loss, False, percent, patients)
                if False in axes.ssl:
                    from_scratch[plain] = None
                if True in axes.ssl:
                    for cell in _pretrained(plain, axes):
                        after_pretraining[cell] = None
                        pretrainings[_source_of(cell)] = None
    return [*pretrainings, *from_scratch, *after_pretraining]


def _pretrained(plain: Cell, axes: Axes) -> Iterator[Cell]:
    """The same segmentation after each pretraining, with each transfer."""
    for pretext, unlabelled, transfer in itertools.product(
        axes.pretexts or ("",), axes.unlabelled or (AS_SET,), axes.transfers or ("",)
    ):
        yield dataclasses.replace(
            plain, ssl=True, pretext=pretext, unlabelled=unlabelled, transfer=transfer
        )


def _source_of(cell: Cell) -> Cell:
    source = cell.source
    assert source is not None
    return source


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
    stage = cell.stage_folder(grid)
    result = read_if_readable(stage.complete_json, StageResult)
    if result is None:
        return False
    if stage.training_json.exists() and not read_if_readable(stage.training_json, StageTraining):
        return False  # the command that trained makes it again
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
    logged = [line["step"] for line in read_metrics(stage.metrics_jsonl)]
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
