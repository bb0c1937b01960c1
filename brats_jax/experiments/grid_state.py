"""The state of a grid in words: a table, a line, and the time left.

Needs neither settings nor devices, so that `--status` answers at once.
"""

from collections.abc import Sequence

from brats_jax.runs.documents import GridConfig
from brats_jax.runs.folder import STAGES, GridFolder
from brats_jax.runs.grid import STATES, Progress, progress_of, read_cells
from brats_jax.runtime.document import read_document
from brats_jax.runtime.text import duration, plural


def estimate_seconds(cells: Sequence[Progress], workers: int) -> float | None:
    """The time until all cells are done, failed ones included.

    A cell is expected to take the mean of the cells of its stage that are done; where none is, the
    mean of what the started ones would take by their share of steps; else that of the other stage.

    Args:
      cells: how far they are.
      workers: how many work at once.

    Returns:
      Seconds; None if nothing is known yet.
    """
    means = {stage: _mean_seconds(cells, stage) for stage in STAGES}
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


def _mean_seconds(cells: Sequence[Progress], stage: str) -> float | None:
    known = [p for p in cells if p.cell.stage == stage and p.seconds]
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


def status(grid: GridFolder) -> str:
    """The table of all cells that the grid was asked for.

    Raises:
      BratsError: no grid there.
    """
    found = table(grid, [progress_of(grid, cell) for cell in read_cells(grid)])
    parts = read_document(grid.grid_json, GridConfig).axes
    lines = [f"over {axes.description}" for axes in parts if axes.description]
    return "\n".join([found, "", *lines]) if lines else found


def table(grid: GridFolder, cells: Sequence[Progress]) -> str:
    """A plain-text table of runs by folds, then the running and the failed cells."""
    folds = sorted({p.cell.fold for p in cells})
    by = {(p.cell.run, p.cell.fold): p for p in cells}
    runs = list(dict.fromkeys(p.cell.run for p in cells))
    width = max(len(str(run)) for run in runs) + 2
    lines = [f"{grid.path}: {summary_line(cells)}", ""]
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
