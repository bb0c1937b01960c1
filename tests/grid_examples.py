"""A grid whose cells are stand-ins, and what they leave. Not tests."""

import fcntl
import json
import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

from document_examples import evaluation_of, record_of, result_of, training_of, write_tally_head

from brats_jax.experiments.config import parse
from brats_jax.experiments.grid_cells import extend
from brats_jax.experiments.grid_runner import GridRunner
from brats_jax.runs.axes import Axes
from brats_jax.runs.folder import GridFolder
from brats_jax.runs.grid import enumerate_cells, progress_of

LEFT = {
    stage: {
        "complete.json": result_of().to_json(),
        "evaluation.json": evaluation_of(stage).to_json(),
    }
    for stage in ("pretrain", "segment")
}
# A stand-in for a training: notes that it was called, and ends as BEHAVIOUR/<cell> says.
STAND_IN = (
    """
import json, os, shutil, signal, sys, time
from pathlib import Path
"""
    f"LEFT = json.loads({json.dumps(LEFT)!r})"
    """
grid, name, directory, stage = sys.argv[1:]
grid = Path(grid)
with (grid / "calls").open("a") as file:
    file.write(name + "\\n")
path = grid / "behaviour" / name
behaviour = path.read_text() if path.exists() else "works"
print("begins", name, flush=True)
if behaviour == "fails":
    print("error: no luck with " + name)
    sys.exit(1)
if behaviour == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "sleeps":
    def save(number, frame):
        (grid / "saved").touch()
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, save)
    (grid / "asleep").touch()
    time.sleep(60)
if behaviour == "busy":
    path.write_text("works")
    sys.exit(75)
place = grid / directory
(place / stage).mkdir(parents=True, exist_ok=True)
(place / stage / "complete.json").write_text(json.dumps(LEFT[stage]["complete.json"]))
shutil.copy(grid / f"tally_{stage}.npz", place)
(place / "evaluation.json").write_text(json.dumps(LEFT[stage]["evaluation.json"]))
"""
)


# pretrain, base, ssl, of one fold
THREE = enumerate_cells([Axes(losses=("focal",), folds=(0,))])
PRETRAIN, BASE, SSL = THREE


class FakeStore:
    fingerprint = "abc"
    path = Path("STORE")
    manifest = SimpleNamespace(
        plane="axial", source={"kind": "phantom"}, normalisation="slice", label_kinds=(), present=()
    )


def config(**changes):
    """configs/base.py with changes, as settings."""
    path = Path(__file__).parent.parent / "configs" / "base.py"
    config = runpy.run_path(str(path))["get_config"]()
    config.update_from_flattened_dict(changes)
    return parse(config)


def command_of(grid):
    start = [sys.executable, str(grid.path / "stand_in.py"), str(grid.path)]
    return lambda cell: [*start, cell.name, str(cell.directory), cell.stage]


def behave(grid, cell, behaviour):
    (grid.path / "behaviour" / cell.name).write_text(behaviour)


def runner(grid, cells=tuple(THREE)):
    return GridRunner(grid, cells, command_of(grid), poll_s=0.02, wait_s=0.1)


def run(grid, cells=tuple(THREE)):
    return runner(grid, cells).run()


def calls(grid):
    return (grid.path / "calls").read_text().split()


def finish(grid, cell, seconds, step=5):
    """What a cell leaves that is trained and evaluated."""
    fold = cell.fold_folder(grid)
    result_of(step).write(cell.stage_folder(grid).complete_json)
    evaluation_of(cell.stage, step).write(fold.evaluation_json)
    write_tally_head(fold.tally(cell.stage), cell.stage)
    record_of(cell.name, seconds=seconds).write(grid.cell_json(cell.name))


def begin(grid, cell, step, total, **record):
    """What a cell leaves that is stopped at a step."""
    stage = cell.stage_folder(grid)
    training_of(total).write(stage.training_json)
    stage.metrics_jsonl.write_text(
        "".join(json.dumps({"event": "step", "step": s}) + "\n" for s in range(step + 1))
    )
    record_of(cell.name, **{"state": "stopped", **record}).write(grid.cell_json(cell.name))


def states(grid, cells=tuple(THREE)):
    return [progress_of(grid, cell).state for cell in cells]


def hold(path):
    """Takes a lock as another process would; os.close gives it back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"far away, process 7\n")
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def make(folder):
    """A grid of one loss and one fold; `behave` says what a cell does."""
    grid = GridFolder(folder)
    extend(grid, config(), FakeStore(), Axes(losses=("focal",), folds=(0,)))
    (folder / "behaviour").mkdir()
    (folder / "stand_in.py").write_text(STAND_IN)
    for stage in ("pretrain", "segment"):  # for the stand-in to copy
        write_tally_head(folder / f"tally_{stage}.npz", stage)
    return grid
