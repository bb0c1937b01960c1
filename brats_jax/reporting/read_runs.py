"""Finds the runs below a folder and reads their files; needs no model, device or store.

A folder with config.json is a run, a folder with grid.json a grid, whose runs are in
pretraining/ and runs/. Any other folder is a collection of runs. A file that cannot be read is
named in `Study.problems`, and the report goes on without it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from brats_jax.errors import BratsError
from brats_jax.evaluation.rows import KEYS
from brats_jax.runs.evaluated import AGAIN, EVALUATION_VERSION
from brats_jax.runs.metrics import read_metrics

STAGES = ("pretrain", "segment")
DEPTH = 3  # levels of folders searched
REPORT_FOLDER = "report"  # written by this command
_TOLD = {"slices", "split_by", "patients", "rows"}  # of an evaluation


@dataclass(frozen=True)
class StageFiles:
    """The files of one training stage of a fold.

    Attributes:
      name: 'pretrain' or 'segment'.
      complete: complete.json (metric, best, best_step, steps, seconds); None before the end of
        training.
      history: the lines of metrics.jsonl.
    """

    name: str
    complete: dict[str, Any] | None
    history: list[dict[str, Any]]

    def curve(self, event: str) -> list[tuple[int, float]]:
        """(epoch, loss) of each epoch; `event` is 'train' or 'validation'."""
        lines = [r for r in self.history if r["event"] == event and "epoch" in r]
        return [(int(r["epoch"]), float(r["loss"])) for r in lines if r.get("loss") is not None]


@dataclass(frozen=True)
class FoldFiles:
    """The files of one fold of a run; None for a file that is missing or unreadable."""

    number: int
    directory: Path
    stages: dict[str, StageFiles]
    evaluation: dict[str, Any] | None
    audit: dict[str, Any] | None

    def tally(self, stage: str) -> Path:
        """Path of the statistics by slice; the file may be missing."""
        return self.directory / f"tally_{stage}.npz"

    def panel(self, name: str) -> Path:
        """Path of a picture; the file may be missing."""
        return self.directory / "panels" / name


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
      name: its path below the report's folder.
      directory: the folder itself.
      document: config.json.
      splits: splits.json, None if it is missing or unreadable.
      folds: by number, the folds that have a folder.
      requested_folds: numbers of the folds that the run, or its grid, was asked for.
    """

    name: str
    directory: Path
    document: dict[str, Any]
    splits: dict[str, Any] | None
    folds: dict[int, FoldFiles]
    requested_folds: tuple[int, ...]

    @property
    def config(self) -> dict[str, Any]:
        return self.document["config"]

    @property
    def loss(self) -> str:
        return str(self.config.get("loss", ""))

    @property
    def ssl(self) -> bool:
        return bool(self.config.get("ssl", False))

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))

    @property
    def fraction(self) -> float:
        """Share of the training patients whose labels are used."""
        return float(self.config.get("data", {}).get("label_fraction", 1.0))

    @property
    def split_by(self) -> str:
        return str(self.config.get("data", {}).get("split_by", "patient"))

    @property
    def is_phantom(self) -> bool:
        """Whether the patients are synthetic."""
        return self.document.get("store", {}).get("source", {}).get("kind") == "phantom"

    @cached_property
    def pretrains_only(self) -> bool:
        """Whether it holds only the pretraining that other runs of a grid share."""
        stages = {name for fold in self.folds.values() for name in fold.stages}
        return stages == {"pretrain"} and self.directory.parent.name == "pretraining"


@dataclass(frozen=True)
class GridCell:
    """One training of a grid.

    Attributes:
      name: its name in the grid.
      run, fold: run folder and fold.
      state: done, running, failed or left.
      note: the progress of a running cell, the error of a failed one.
      attempts, seconds: in total; None if not recorded.
    """

    name: str
    run: str
    fold: int
    state: str
    note: str
    attempts: int | None
    seconds: float | None


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


def discover(workdir: Path) -> Study:
    """Reads a run, a grid, or a folder of runs.

    Raises:
      BratsError: there is no such folder, or no run in it.
    """
    if not workdir.is_dir():
        raise BratsError(f"{workdir}: no such folder; give the --workdir of a run or a grid")
    if (workdir / "config.json").exists():
        study = Study(workdir, "run")
        directories = [workdir]
    else:
        study = Study(workdir, "grid" if (workdir / "grid.json").exists() else "folder")
        directories = sorted(_run_folders(workdir, DEPTH))
    if study.kind == "grid":
        study.cells = list(_grid_cells(workdir, study.problems))
    requested: dict[str, tuple[int, ...]] = {}
    for cell in study.cells:
        requested[cell.run] = (*requested.get(cell.run, ()), cell.fold)
    for directory in directories:
        run = _read_run(directory, workdir, requested, study.problems)
        if run is not None:
            study.runs.append(run)
    if not study.runs and not study.cells:
        found = f" ({study.problems[0]})" if study.problems else ""
        raise BratsError(
            f"{workdir}: no run there{found}; give a run folder written by brats_jax.main, or a "
            "folder that holds run folders"
        )
    return study


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or child.name in (REPORT_FOLDER, "cells"):
            continue
        if child.name.startswith((".", "fold_")):
            continue
        if (child / "config.json").exists():
            yield child
        elif depth > 1:
            yield from _run_folders(child, depth - 1)


def _read_run(
    directory: Path, workdir: Path, requested: dict[str, tuple[int, ...]], problems: list[str]
) -> Run | None:
    document = _json(directory / "config.json", problems)
    if document is None:
        return None
    if not isinstance(document.get("config"), dict):
        problems.append(f"{directory / 'config.json'}: not a configuration of this program")
        return None
    splits = _json(directory / "splits.json", problems)
    folds = {}
    for path in sorted(directory.glob("fold_*")):
        number = path.name.removeprefix("fold_")
        if path.is_dir() and number.isdecimal():
            folds[int(number)] = _read_fold(path, int(number), problems)
    name = directory.name if directory == workdir else str(directory.relative_to(workdir))
    # In a grid every fold is a call of its own, so config.json names one fold only.
    asked = requested.get(name) or tuple(document["config"].get("folds", ()))
    return Run(name, directory, document, splits, dict(sorted(folds.items())), tuple(sorted(asked)))


def _read_fold(directory: Path, number: int, problems: list[str]) -> FoldFiles:
    stages = {}
    for name in STAGES:
        path = directory / name
        if path.is_dir():
            stages[name] = StageFiles(
                name,
                _json(path / "complete.json", problems),
                read_metrics(path / "metrics.jsonl"),
            )
    evaluation = _json(directory / "evaluation.json", problems)
    if evaluation is not None and not _is_understood(evaluation):
        problems.append(
            f"{directory / 'evaluation.json'}: written by another version of this program, with "
            f"other definitions of some numbers; {AGAIN}"
        )
        evaluation = None
    return FoldFiles(number, directory, stages, evaluation, _json(directory / "audit.json", []))


def _is_understood(evaluation: dict[str, Any]) -> bool:
    if evaluation.get("version") != EVALUATION_VERSION or not set(evaluation) >= _TOLD:
        return False
    rows = evaluation["rows"]
    known = {*KEYS, "mean", "count"}
    return isinstance(rows, list) and all(isinstance(r, dict) and known <= set(r) for r in rows)


def _grid_cells(grid: Path, problems: list[str]) -> Iterator[GridCell]:
    # Imported here: it loads the training libraries, which other folders do not need.
    from brats_jax.experiments import grid_state

    try:
        cells = grid_state.cells_of(grid)
    except BratsError as error:
        problems.append(str(error))
        return
    for cell in cells:
        progress = grid_state.look(grid, cell)
        attempts = grid_state.read_record(grid, cell).get("attempts")
        yield GridCell(
            name=cell.name,
            run=str(cell.run),
            fold=cell.fold,
            state=progress.state,
            note=progress.note,
            attempts=attempts if isinstance(attempts, int) else None,
            seconds=progress.seconds,
        )


def _json(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """The JSON object at `path`; None if it is missing, or unreadable and added to `problems`."""
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        problems.append(f"{path}: cannot be read ({error})")
        return None
    if not isinstance(document, dict):
        problems.append(f"{path}: not a file of this program")
        return None
    return document
