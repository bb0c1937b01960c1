"""The state of a grid in words; its cells are stand-ins."""

import os

import pytest
from document_examples import training_of
from grid_examples import PRETRAIN, FakeStore, begin, config, finish, hold

from brats_jax.experiments.grid_cells import extend
from brats_jax.experiments.grid_state import estimate_seconds, status, summary_line, table
from brats_jax.runs.axes import Axes
from brats_jax.runs.grid import enumerate_cells, progress_of, read_cells


def test_the_estimate_takes_cells_of_the_same_stage(grid):
    cells = enumerate_cells([Axes(folds=(0, 1))])  # 2 pretrainings, 6 + 6 segmentations
    look = [progress_of(grid, cell) for cell in cells]
    assert estimate_seconds(look, 1) is None
    assert summary_line(look) == "0 of 14 done, 14 left; time left not known yet"

    # Nothing finished: a quarter of the steps in 25 s means 100 s, also for the other stage.
    begin(grid, cells[0], 30, 120, seconds=25.0)
    look = [progress_of(grid, cell) for cell in cells]
    assert estimate_seconds(look, 1) == pytest.approx(75 + 13 * 100)

    finish(grid, cells[0], 60.0)
    finish(grid, cells[2], 100.0)
    finish(grid, cells[3], 200.0)
    begin(grid, cells[4], 40, 80, seconds=999.0)
    look = [progress_of(grid, cell) for cell in cells]
    # One pretraining at 60 s, nine and a half segmentations at 150 s.
    assert estimate_seconds(look, 1) == pytest.approx(60 + 9.5 * 150)
    assert estimate_seconds(look, 4) == pytest.approx((60 + 9.5 * 150) / 4)
    assert estimate_seconds(look, 100) == pytest.approx((60 + 9.5 * 150) / 11)
    assert estimate_seconds(look[2:4], 3) == 0


def test_the_table_shows_every_cell_and_the_notes_of_some(grid):
    extend(grid, config(), FakeStore(), Axes(losses=("focal",), folds=(0, 1)))
    cells = read_cells(grid)
    pretrain_0, _, base_0, base_1, ssl_0, ssl_1 = cells
    finish(grid, pretrain_0, 60.0)
    finish(grid, base_0, 100.0)
    begin(grid, base_1, 0, 80, state="failed", error="the loss is not finite")
    begin(grid, ssl_0, 20, 80)
    begin(grid, ssl_1, 60, 80)
    descriptor = hold(ssl_0.fold_folder(grid).lock)
    text = table(grid, [progress_of(grid, cell) for cell in cells])
    os.close(descriptor)
    # 60 + 100 + 75 + 25 seconds
    assert text.splitlines() == [
        f"{grid.path}: 2 of 6 done, 1 failed, 1 running, 2 left; about 4:20 more with 1 worker",
        "",
        "                                   fold 0   fold 1",
        "pretraining/seed_0                 done     -",
        "runs/focal-base-labels_100-seed_0  done     failed",
        "runs/focal-ssl-labels_100-seed_0   25% ...  75%",
        "",
        "running:",
        "  focal-ssl-labels_100-seed_0-fold_0: step 20 of 80 (25%), far away, process 7",
        "",
        "failed:",
        "  focal-base-labels_100-seed_0-fold_1: the loss is not finite",
    ]


def test_a_cell_that_has_begun_is_marked_until_it_has_a_share(grid):
    def mark():
        return status(grid).splitlines()[3].split()[-1]

    assert mark() == "-"
    stage = PRETRAIN.stage_folder(grid)
    training_of(80).write(stage.training_json)
    assert mark() == "begun"
    (stage.last / "8").mkdir(parents=True)
    assert mark() == "10%"
