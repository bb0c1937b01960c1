"""A grid whose cells are stand-ins, and what they leave. Not tests."""

import fcntl
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from brats_jax.evaluation import tallies
from brats_jax.experiments import grid_state
from brats_jax.experiments.grid_cells import Axes, enumerate_cells
from brats_jax.experiments.grid_runner import GridRunner
from brats_jax.runs.evaluated import EVALUATION_VERSION
from brats_jax.runtime.files import write_json

# A stand-in for a training: notes that it was called, and ends as BEHAVIOUR/<cell> says.
STAND_IN = (
    f"EVALUATION_VERSION = {EVALUATION_VERSION}"
    + """
import json, os, shutil, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
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
(place / stage / "complete.json").write_text(json.dumps({"best_step": 5}))
shutil.copy(grid / f"tally_{stage}.npz", place)
(place / "evaluation.json").write_text(json.dumps(
    {"version": EVALUATION_VERSION, "checkpoints": {stage: {"step": 5}}}
))
"""
)


# pretrain, base, ssl, of one fold
THREE = enumerate_cells([Axes(losses=("focal",), folds=(0,))])
PRETRAIN, BASE, SSL = THREE


class FakeStore:
    fingerprint = "abc"
    path = Path("STORE")
    manifest = SimpleNamespace(source={"kind": "phantom"}, normalisation="slice")


def write_tally(path, stage, version=tallies.VERSION):
    """The head of a tally, which is all that a grid reads of it."""
    head = {"schema": tallies.SCHEMA, "version": version, "stage": stage, "facts": {}}
    np.savez(path, head=np.array(json.dumps(head)))


def config(**changes):
    path = Path(__file__).parent.parent / "configs" / "base.py"
    scope: dict = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    document = scope["get_config"]()
    document.update_from_flattened_dict(changes)
    return json.loads(document.to_json_best_effort())


def command_of(grid):
    start = [sys.executable, str(grid / "stand_in.py"), str(grid)]
    return lambda cell: [*start, cell.name, str(cell.directory), cell.stage]


def behave(grid, cell, behaviour):
    (grid / "behaviour" / cell.name).write_text(behaviour)


def run(grid, cells=tuple(THREE)):
    return GridRunner(grid, cells, command_of(grid)).run()


def calls(grid):
    return (grid / "calls").read_text().split()


def finish(grid, cell, seconds, step=5):
    write_json(grid / cell.directory / cell.stage / "complete.json", {"best_step": step})
    checkpoints = {cell.stage: {"step": step}}
    document = {"version": EVALUATION_VERSION, "checkpoints": checkpoints}
    write_json(grid / cell.directory / "evaluation.json", document)
    write_tally(grid / cell.directory / f"tally_{cell.stage}.npz", cell.stage)
    write_json(grid_state.record_path(grid, cell), {"state": "done", "seconds": seconds})


def begin(grid, cell, step, total, **record):
    stage = grid / cell.directory / cell.stage
    write_json(stage / "training.json", {"steps": total})
    (stage / "metrics.jsonl").write_text(
        "".join(json.dumps({"event": "step", "step": s}) + "\n" for s in range(step + 1))
    )
    write_json(grid_state.record_path(grid, cell), record)


def states(grid, cells=tuple(THREE)):
    return [grid_state.look(grid, cell).state for cell in cells]


def hold(path):
    """Takes a lock as another process would; os.close gives it back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"far away, process 7\n")
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def make(folder):
    """A grid of one loss and one fold; `behave` says what a cell does."""
    grid_state.extend(folder, config(), FakeStore(), Axes(losses=("focal",), folds=(0,)))
    (folder / "behaviour").mkdir()
    (folder / "stand_in.py").write_text(STAND_IN)
    for stage in ("pretrain", "segment"):  # for the stand-in to copy
        write_tally(folder / f"tally_{stage}.npz", stage)
    return folder
