"""Finds the runs below a folder and reads their files; needs no model or device.

A folder with config.json is a run, a folder with grid.json a grid, whose runs are in
pretraining/ and runs/. Any other folder is a collection of runs. A file that cannot be read is
named in `Study.problems`, and the report goes on without it; so is a run whose splits do not fit
its store, where that is still there.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from brats_jax.data.audit import Audit
from brats_jax.data.sources.joined import descriptions_in
from brats_jax.data.splits import Splits, check_splits
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.runs.documents import (
    CellRecord,
    Evaluation,
    RunConfig,
    StageResult,
    StageTraining,
)
from brats_jax.runs.documents.subsets import SubsetEvaluation, SubsetFiles
from brats_jax.runs.folder import (
    STAGES,
    FoldFolder,
    GridFolder,
    RunFolder,
    find_runs,
)
from brats_jax.runs.grid import progress_of, read_cells
from brats_jax.runs.metrics_jsonl import read_metrics
from brats_jax.runs.missing_config import missing_config_notes
from brats_jax.runs.store_facts import path_of_store
from brats_jax.runtime.document import (
    Document,
    read_if_there,
)
from brats_jax.runtime.text import without_folders

_OF_ALL = (
    "was trained on all patients (config.folds=all): there is nothing to evaluate it on, so that "
    "it is in no table; predict, export and load use it"
)
_UNKNOWN = 1000  # training patients of a run without splits

D = TypeVar("D", bound=Document)


@dataclass(frozen=True)
class StageFiles:
    """The files of one training stage of a fold.

    Attributes:
      name: 'pretrain' or 'segment'.
      result: None before the end of training.
      history: the records of metrics.jsonl.
      training: its length and data; None if that is missing or unreadable.
    """

    name: str
    result: StageResult | None
    history: list[dict[str, Any]]
    training: StageTraining | None = None

    def curve(self, event: str) -> list[tuple[int, float]]:
        """(epoch, loss) of each epoch; `event` is 'train' or 'validation'."""
        lines = [r for r in self.history if r["event"] == event and "epoch" in r]
        return [(int(r["epoch"]), float(r["loss"])) for r in lines if r.get("loss") is not None]


@dataclass(frozen=True)
class FoldFiles:
    """The files of one fold of a run; None for a document that is missing or unreadable."""

    folder: FoldFolder
    stages: dict[str, StageFiles]
    evaluation: Evaluation | None
    audit: Audit | None
    subsets: SubsetEvaluation | None = None

    @property
    def number(self) -> int:
        return self.folder.number


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
      name: its path below the report's folder.
      folder: the folder itself.
      document: config.json.
      splits: None if splits.json is missing or unreadable.
      folds: by number, the folds that have a folder.
      requested_folds: numbers of the folds that the run, or its grid, was asked for.
    """

    name: str
    folder: RunFolder
    document: RunConfig
    splits: Splits | None
    folds: dict[int, FoldFiles]
    requested_folds: tuple[int, ...]

    @property
    def config(self) -> dict[str, Any]:
        """All settings, as config.json has them."""
        return self.document.config

    @property
    def loss(self) -> str:
        return self.document.settings.loss

    @property
    def ssl(self) -> bool:
        return self.document.settings.ssl

    @property
    def seed(self) -> int:
        return self.document.settings.seed

    @property
    def fraction(self) -> float:
        """Share of the training patients whose labels are used; of a number of them, about."""
        data = self.document.settings.data
        if not data.label_patients:
            return data.label_fraction
        folds = self.splits.folds if self.splits else ()
        every = sum(map(len, folds)) * (1 - 1 / max(1, len(folds)))
        every += len(self.splits.training_only) if self.splits else 0
        return min(1.0, data.label_patients / (every or _UNKNOWN))

    @property
    def label_patients(self) -> int:
        """The number of these patients, where the run was given one; else 0."""
        return self.document.settings.data.label_patients

    @property
    def pretraining_run(self) -> str:
        """The run that the encoder is taken from; '' for a run that pretrains by itself."""
        return str(self.config.get("pretrain", {}).get("run", ""))

    @property
    def pretraining_slices(self) -> str:
        """The slices that the pretraining trains on, 'tumour' or 'all'."""
        return str(self.config.get("pretrain", {}).get("slices", "all"))

    @property
    def split_by(self) -> str:
        return self.document.settings.data.split_by

    @property
    def is_phantom(self) -> bool:
        """Whether the patients are synthetic."""
        sources = descriptions_in(self.document.store.source)
        return any(source.get("kind") == "phantom" for source in sources)

    @cached_property
    def pretrains_only(self) -> bool:
        """Whether it holds only the pretraining that other runs of a grid share."""
        stages = {name for fold in self.folds.values() for name in fold.stages}
        return stages == {"pretrain"} and self.folder.is_pretraining_of_a_grid


@dataclass(frozen=True)
class GridCell:
    """One training of a grid.

    Attributes:
      name: its name in the grid.
      run, fold: run folder and fold.
      state: done, running, failed or left.
      note: the progress of a running cell, the error of a failed one.
      attempts: so far; None if not recorded.
    """

    name: str
    run: str
    fold: int
    state: str
    note: str
    attempts: int | None


@dataclass
class Study:
    """The runs found below a folder.

    Attributes:
      workdir: the folder.
      kind: 'run', 'grid' or 'folder'.
      runs: by name.
      cells: of a grid.
      problems: a line for each file that could not be read.
    """

    workdir: Path
    kind: str
    runs: list[Run] = field(default_factory=list)
    cells: list[GridCell] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def below(self, line: str) -> str:
        """A line without the folders above the report's, which tell of the machine."""
        return without_folders(line.replace(f"{self.workdir}{os.sep}", ""))


def discover(workdir: Path) -> Study:
    """Reads a run, a grid, or a folder of runs.

    Raises:
      BratsError: there is no such folder, or no run in it.
    """
    if not workdir.is_dir():
        raise BratsError(f"{workdir}: no such folder; give the --workdir of a run or a grid")
    if RunFolder(workdir).exists:
        study, folders = Study(workdir, "run"), [RunFolder(workdir)]
    else:
        study = Study(workdir, "grid" if GridFolder(workdir).exists else "folder")
        folders = sorted(find_runs(workdir), key=lambda folder: folder.path)
    if study.kind == "grid":
        study.cells = list(_grid_cells(workdir, study.problems))
    requested: dict[str, tuple[int, ...]] = {}
    for cell in study.cells:
        requested[cell.run] = (*requested.get(cell.run, ()), cell.fold)
    stores: dict[str, Store | None] = {}
    study.problems += missing_config_notes(workdir)
    of_all = []
    for folder in folders:
        run = _read_run(folder, workdir, requested, stores, study.problems)
        if run is not None and run.document.settings.trains_on_all:
            of_all.append(f"{folder.path} {_OF_ALL}")
        elif run is not None:
            study.runs.append(run)
    if of_all and not study.runs and not study.cells:
        raise BratsError(of_all[0])
    study.problems += of_all
    if not study.runs and not study.cells:
        if study.problems:
            raise BratsError(f"{workdir}: no run there can be read: {study.problems[0]}")
        raise BratsError(
            f"{workdir}: no run there; give a run folder written by brats_jax.main, or a folder "
            "that holds run folders"
        )
    return study


def _read_run(
    folder: RunFolder,
    workdir: Path,
    requested: dict[str, tuple[int, ...]],
    stores: dict[str, Store | None],
    problems: list[str],
) -> Run | None:
    document = _read(folder.config_json, RunConfig, problems)
    if document is None:
        return None
    splits = _read(folder.splits_json, Splits, problems)
    store = _store_of(document, folder, stores)
    if splits is not None and store is not None:
        # The run's numbers may be over other patients than it says: it is left out.
        try:
            check_splits(splits, store, folder.splits_json)
        except BratsError as error:
            problems.append(str(error))
            return None
    path = folder.path
    name = path.name if path == workdir else str(path.relative_to(workdir))
    return Run(
        name,
        folder,
        document,
        splits,
        {fold.number: _read_fold(fold, problems) for fold in folder.folds()},
        # In a grid every fold is a call of its own, so config.json names one fold only.
        tuple(sorted(requested.get(name) or document.settings.folds)),
    )


def _store_of(
    document: RunConfig, folder: RunFolder, stores: dict[str, Store | None]
) -> Store | None:
    """The store of a run, opened once for all its runs; None if it is gone or another now."""
    path = document.settings.data.store
    if path not in stores:
        try:
            stores[path] = Store.open(path_of_store(path, folder.path)) if path else None
        except (BratsError, OSError, ValueError):
            stores[path] = None
    store = stores[path]
    if store is not None:
        store = store.as_of(document.store.fingerprint)
    same = store is not None and store.fingerprint == document.store.fingerprint
    return store if same else None


def _read_fold(folder: FoldFolder, problems: list[str]) -> FoldFiles:
    stages = {}
    for stage in map(folder.stage, STAGES):
        if stage.path.is_dir():
            result = _read(stage.complete_json, StageResult, problems)
            training = _read(stage.training_json, StageTraining, problems)
            history = read_metrics(stage.metrics_jsonl)
            stages[stage.name] = StageFiles(stage.name, result, history, training)
    return FoldFiles(
        folder,
        stages,
        _read(folder.evaluation_json, Evaluation, problems),
        _read(folder.audit_json, Audit, problems),
        _read_subsets(folder, problems),
    )


def _read_subsets(folder: FoldFolder, problems: list[str]) -> SubsetEvaluation | None:
    """The evaluation from every subset; None if there is none, or one that was not finished."""
    path = SubsetFiles(folder.path).json
    found = _read(path, SubsetEvaluation, problems)
    if found is None or found.is_complete:
        return found
    problems.append(
        f"{path}: {len(found.subsets)} of {2 ** len(found.inputs) - 1} subsets are evaluated; the "
        "command that trained goes on with --config.evaluation.subsets=True"
    )
    return None


def _read(path: Path, kind: type[D], problems: list[str]) -> D | None:
    """A document; None if it is missing, or unreadable and added to `problems`."""
    try:
        return read_if_there(path, kind)
    except BratsError as error:
        problems.append(str(error))
        return None


def _grid_cells(grid: Path, problems: list[str]) -> Iterator[GridCell]:
    folder = GridFolder(grid)
    try:
        cells = read_cells(folder)
    except BratsError as error:
        problems.append(str(error))
        return
    for cell in cells:
        progress = progress_of(folder, cell)
        record = _read(folder.cell_json(cell.name), CellRecord, problems)
        yield GridCell(
            name=cell.name,
            run=str(cell.run),
            fold=cell.fold,
            state=progress.state,
            note=progress.note,
            attempts=record.attempts if record else None,
        )
