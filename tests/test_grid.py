"""The grid command in a process of its own: stopped, asked for its state, refused."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from grid_examples import (
    BASE,
    PRETRAIN,
    SSL,
    behave,
    calls,
    finish,
    run,
    states,
)

from brats_jax.runs.folder import GridFolder
from brats_jax.runs.grid import Cell, progress_of, read_record

DRIVER = """
import sys
from pathlib import Path
from brats_jax.experiments.grid_runner import GridRunner
from brats_jax.runs.axes import Axes
from brats_jax.runs.folder import GridFolder
from brats_jax.runs.grid import enumerate_cells
grid = GridFolder(Path(sys.argv[1]))
command = lambda c: [sys.executable, str(grid.path / "stand_in.py"), str(grid.path), c.name,
                     str(c.directory), c.stage]
GridRunner(grid, enumerate_cells([Axes(losses=("focal",), folds=(0,))]), command).run()
"""


def await_file(path, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_grid_stops_its_cell(grid, number):
    """A grid passes SIGTERM on and waits; the cell of a killed grid saves and ends by itself."""
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux signals the end of a parent")
    behave(grid, BASE, "sleeps")
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(grid.path)], stdout=subprocess.PIPE, text=True
    )
    await_file(grid.path / "asleep")
    process.send_signal(number)
    printed = process.communicate(timeout=30)[0]
    await_file(grid.path / "saved", 10)
    assert calls(grid) == [PRETRAIN.name, BASE.name]
    assert states(grid) == ["done", "left", "left"]
    if number == signal.SIGTERM:
        assert process.returncode == 143
        assert f"stopped in {BASE.name}; the same command continues from there" in printed
        assert read_record(grid, BASE).state == "stopped"
    behave(grid, BASE, "works")
    assert run(grid) == {} and calls(grid)[2:] == [BASE.name, SSL.name]
    assert read_record(grid, BASE).attempts == 2


def grid_command(*flags):
    environment = {**os.environ, "JAX_PLATFORMS": "none"}  # no device is available
    done = subprocess.run(
        [sys.executable, "-m", "brats_jax.grid", *map(str, flags)],
        cwd=Path(__file__).parent.parent, env=environment,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_status_needs_no_device_and_no_settings(grid):
    finish(grid, BASE, 60.0)
    status, out, error = grid_command(f"--workdir={grid.path}", "--status")
    assert (status, error) == (0, "")
    assert out.startswith(f"{grid.path}: 1 of 3 done, 2 left; about 2:00 more with 1 worker\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.loss=focal"], "--config.loss differs within a grid; give --losses instead"),
        (["--config.data.store=nowhere"], "there is no store at nowhere: make one with"),
    ],
)
def test_impossible_settings_are_refused_before_any_cell_starts(tmp_path, flags, message):
    (tmp_path / "manifest.json").touch()  # of a store that is there
    status, _, error = grid_command(
        "--config=tests/tiny_config.py", f"--workdir={tmp_path}/grid",
        f"--config.data.store={tmp_path}", *flags,
    )  # fmt: skip
    assert status == 1 and message in error and error.count("\n") == 1
    assert not (tmp_path / "grid").exists()


def test_the_grid_itself_uses_no_device(small_store, tmp_path):
    """Without devices every cell fails, and the grid still starts each of them."""
    status, out, error = grid_command(
        "--config=tests/tiny_config.py", f"--workdir={tmp_path}/grid", "--losses=focal",
        f"--config.data.store={small_store.path}", "--ssl=false", "--config.folds=0,1",
        "--shard=1/2",
    )  # fmt: skip
    assert status == 1, error
    name = "focal-base-labels_100-seed_0-fold_1"
    assert "grid: 2 cells, of which 1 are run here (--shard=1/2)" in out
    assert f"\n  {name}: " in out and "--config.folds=1 --config.seed=0" in out
    cell = Cell("segment", 0, 1, "focal")
    assert cell.name == name
    assert progress_of(GridFolder(tmp_path / "grid"), cell).state == "failed"
