"""What a grid folder holds: its settings, and how far each of its cells is.

GRID/grid.json             settings, store and versions it was started with; the axes asked for
GRID/pretraining/seed_S/   a run folder (see experiment.py) with the first stage of every fold
GRID/runs/NAME/            a run folder for each loss, start, share of labels and seed
GRID/cells/CELL.json       attempts, seconds, how the last attempt ended
GRID/cells/CELL.lock       held while a process of the grid has the cell in hand
GRID/logs/CELL.log         what the cell printed
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.experiments import frozen
from brats_jax.experiments.grid_cells import AXES, Axes, Cell, enumerate_cells
from brats_jax.runs import evaluated
from brats_jax.runs.metrics import read_metrics
from brats_jax.runtime import locks
from brats_jax.runtime.files import write_json
from brats_jax.runtime.text import duration, plural

SCHEMA = "brats_jax.grid"
VERSION = 1
STATES = ("done", "running", "failed", "left")


@dataclass(frozen=True)
class Progress:
    """How far a cell is.

    Attributes:
      cell: which.
      state: one of STATES.
      share: of its steps, in [0, 1], as far as they are logged or saved.
      seconds: spent on it in all attempts; None if not known.
      note: of a running cell its process and step, of a failed one its error, of one that is left
        'begun' if it is.
    """

    cell: Cell
    state: str
    share: float
    seconds: float | None
    note: str = ""


def extend(grid: Path, config: dict[str, Any], store: Store, axes: Axes) -> None:
    """Starts the folder of a grid, or adds axes to it.

    Args:
      grid: the folder.
      config: the settings that all cells share, as JSON has them.
      store: the data.
      axes: what is asked for now.

    Raises:
      BratsError: the grid was started with other settings, or on another store.
    """
    path = grid / "grid.json"
    for name in (*AXES, "folds"):
        group = config
        *parents, last = name.split(".")
        for parent in parents:
            group = group[parent]
        group.pop(last, None)
    # Several workers start at once; this takes each of them a moment.
    with locks.hold(grid / "lock", str(grid), patience_s=60):
        if path.exists():
            document = frozen.check_same(path, config, store)
            parts = [Axes.from_json(part) for part in _known(path, document)["axes"]]
        else:
            document = {"schema": SCHEMA, "version": VERSION, **frozen.describe(config, store)}
            parts = []
        if axes not in parts:
            parts.append(axes)
            write_json(path, {**document, "axes": [dataclasses.asdict(part) for part in parts]})


def cells_of(grid: Path) -> list[Cell]:
    """All cells that the grid in this folder has been asked for.

    Raises:
      BratsError: no grid there.
    """
    path = grid / "grid.json"
    try:
        document = _known(path, json.loads(path.read_text()))
        return enumerate_cells([Axes.from_json(part) for part in document["axes"]])
    except (FileNotFoundError, NotADirectoryError):
        raise BratsError(f"{grid}: no grid there; give the folder of one as --workdir") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BratsError(f"{path}: cannot be read ({error})") from None


def _known(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    if document.get("schema") != SCHEMA or document.get("version") != VERSION:
        raise BratsError(f"{path}: not a version {VERSION} grid of this program")
    return document


def is_done(grid: Path, cell: Cell) -> bool:
    """Whether the cell is trained to the end, and its best checkpoint evaluated."""
    directory = grid / cell.directory
    trained = _read(directory / cell.stage / "complete.json")
    if "best_step" not in trained:
        return False
    return evaluated.is_current(directory, {cell.stage: trained["best_step"]})


def holder(grid: Path, cell: Cell) -> str | None:
    """The process that is at the cell now, if any: the cell's own, or one about to start it."""
    return locks.holder(grid / cell.directory / "lock") or locks.holder(claim_path(grid, cell))


def claim_path(grid: Path, cell: Cell) -> Path:
    """Held by a grid's process while it has the cell in hand, from before the cell is started."""
    return grid / "cells" / f"{cell.name}.lock"


def record_path(grid: Path, cell: Cell) -> Path:
    """The cell's bookkeeping."""
    return grid / "cells" / f"{cell.name}.json"


def read_record(grid: Path, cell: Cell) -> dict[str, Any]:
    """attempts, seconds, state of the last attempt, ...; empty if there was none."""
    return _read(record_path(grid, cell))


def look(grid: Path, cell: Cell) -> Progress:
    """How far a cell is, from what lies in its folders; needs no device."""
    record = read_record(grid, cell)
    seconds = record.get("seconds")
    if is_done(grid, cell):
        return Progress(cell, "done", 1.0, seconds)
    stage = grid / cell.directory / cell.stage
    total = _read(stage / "training.json").get("steps") or 0
    # What is saved may lie behind the last step that is logged, or be all that there is.
    steps = [r["step"] for r in read_metrics(stage / "metrics.jsonl")]
    steps += [int(path.name) for path in (stage / "last").glob("*") if path.name.isdigit()]
    step = max(steps, default=0)
    share = min(1.0, step / total) if total else 0.0
    by = holder(grid, cell)
    if by is not None:
        trained = (stage / "complete.json").exists()
        where = "evaluating" if trained else f"step {step} of {total or '?'} ({share:.0%})"
        return Progress(cell, "running", share, seconds, f"{where}, {by}")
    if record.get("state") == "failed":
        return Progress(cell, "failed", share, seconds, str(record.get("error", "")))
    return Progress(cell, "left", share, seconds, "begun" if stage.exists() else "")


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def estimate_seconds(cells: Sequence[Progress], workers: int) -> float | None:
    """Time until all cells that are not done are, failed ones included.

    A cell takes the mean of those done of its kind (pretraining, segmentation); where none
    is done, what the running ones let expect by their share of steps; else the other kind's.

    Args:
      cells: how far they are.
      workers: how many work at once.

    Returns:
      Seconds; None if nothing is known yet.
    """
    means = {kind: _mean_seconds(cells, kind) for kind in ("pretrain", "segment")}
    known = [mean for mean in means.values() if mean is not None]
    left = [p for p in cells if p.state != "done"]
    if not left:
        return 0.0
    if not known:
        return None
    total = 0.0
    for progress in left:
        mean = means[progress.cell.stage]
        total += (known[0] if mean is None else mean) * (1 - progress.share)
    return total / max(1, min(workers, len(left)))


def _mean_seconds(cells: Sequence[Progress], kind: str) -> float | None:
    known = [p for p in cells if p.cell.stage == kind and p.seconds]
    times = [p.seconds for p in known if p.state == "done" and p.seconds]
    if not times:
        times = [p.seconds / p.share for p in known if p.share > 0 and p.seconds]
    return sum(times) / len(times) if times else None


def summary_line(cells: Sequence[Progress], workers: int | None = None) -> str:
    """'12 of 35 done, 1 failed, 2 running, 20 left; about 5:12:00 more with 2 workers'."""
    count = {state: sum(p.state == state for p in cells) for state in STATES}
    workers = max(1, count["running"] if workers is None else workers)
    parts = [f"{count['done']} of {len(cells)} done"]
    parts += [f"{count[s]} {s}" for s in ("failed", "running", "left") if count[s]]
    line = ", ".join(parts)
    if count["done"] == len(cells):
        return line
    seconds = estimate_seconds(cells, workers)
    if seconds is None:
        return f"{line}; time left not known yet"
    return f"{line}; about {duration(seconds)} more with {plural(workers, 'worker')}"


def status(grid: Path) -> str:
    """The table of all cells that the grid has been started with.

    Raises:
      BratsError: no grid there.
    """
    return table(grid, [look(grid, cell) for cell in cells_of(grid)])


def table(grid: Path, cells: Sequence[Progress]) -> str:
    """Runs by folds, then what is running and what failed, in plain text."""
    folds = sorted({p.cell.fold for p in cells})
    by = {(p.cell.run, p.cell.fold): p for p in cells}
    runs = list(dict.fromkeys(p.cell.run for p in cells))
    width = max(len(str(run)) for run in runs) + 2
    lines = [f"{grid}: {summary_line(cells)}", ""]
    lines.append("".ljust(width) + "".join(f"fold {fold}".ljust(9) for fold in folds).rstrip())
    for run in runs:
        row = [_mark(by.get((run, fold))) for fold in folds]
        lines.append(str(run).ljust(width) + "".join(mark.ljust(9) for mark in row).rstrip())
    for state in ("running", "failed"):
        chosen = [p for p in cells if p.state == state]
        if chosen:
            lines += ["", f"{state}:", *(f"  {p.cell.name}: {p.note}" for p in chosen)]
    return "\n".join(lines)


def _mark(progress: Progress | None) -> str:
    if progress is None:
        return ""
    if progress.state == "running":
        return f"{progress.share:.0%} ..."
    if progress.state == "left":
        return f"{progress.share:.0%}" if progress.share else progress.note or "-"
    return progress.state
