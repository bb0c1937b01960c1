"""The cells of a grid and their progress, read from folders that stand-ins left."""

import dataclasses
import os

import pytest
from document_examples import training_of
from grid_examples import BASE, PRETRAIN, SSL, begin, finish, hold, states

from brats_jax.errors import BratsError
from brats_jax.runs.axes import Axes
from brats_jax.runs.documents import EvaluatedCheckpoint, Evaluation
from brats_jax.runs.folder import GridFolder
from brats_jax.runs.grid import enumerate_cells, is_done, progress_of, read_cells
from brats_jax.runtime.document import read_document
from brats_jax.runtime.files import write_json


def test_parts_overlap_without_repetition():
    first = Axes(losses=("focal",))
    second = Axes(losses=("focal",), percents=(10, 100), folds=(0,))
    cells = enumerate_cells([first, second])
    assert len(cells) == len(set(cells)) == 5 + 10 + 2
    assert enumerate_cells([first, second, first]) == cells
    assert [c.stage for c in cells] == ["pretrain"] * 5 + ["segment"] * 12


def test_states_are_read_from_the_folders(grid):
    assert states(grid) == ["left", "left", "left"]
    finish(grid, PRETRAIN, 60.0)
    begin(grid, BASE, 30, 120, state="running", seconds=20.0)
    begin(grid, SSL, 0, 120, state="failed", seconds=4.0, error="no space")
    # One is recorded as running, but no process holds its lock.
    assert states(grid) == ["done", "left", "failed"]
    descriptor = hold(BASE.fold_folder(grid).lock)
    progress = progress_of(grid, BASE)
    assert (progress.state, progress.share, progress.seconds) == ("running", 0.25, 20.0)
    assert progress.note == "step 30 of 120 (25%), far away, process 7"
    os.close(descriptor)


def test_a_cell_is_done_once_its_best_step_is_evaluated(grid):
    finish(grid, BASE, 1.0)
    assert is_done(grid, BASE)
    path = BASE.fold_folder(grid).evaluation_json
    whole = read_document(path, Evaluation)
    earlier = {"segment": EvaluatedCheckpoint(4, 1, 0.5)}
    dataclasses.replace(whole, checkpoints=earlier).write(path)
    assert not is_done(grid, BASE)
    write_json(path, {**whole.to_json(), "version": 2})
    assert not is_done(grid, BASE)
    for text in ("", "[]", "{}", '{"version": 3}', '{"version": 2, "check'):
        path.write_text(text)
        assert not is_done(grid, BASE)
    path.unlink()
    assert not is_done(grid, BASE)


def test_a_cell_has_begun_before_its_first_line_and_its_first_checkpoint(grid):
    assert progress_of(grid, PRETRAIN).note == ""
    stage = PRETRAIN.stage_folder(grid)
    training_of(80).write(stage.training_json)
    assert progress_of(grid, PRETRAIN).note == "begun"
    (stage.last / "8").mkdir(parents=True)
    assert progress_of(grid, PRETRAIN).share == 0.1


def test_a_folder_without_grid_has_no_cells(tmp_path):
    with pytest.raises(BratsError, match="no grid there"):
        read_cells(GridFolder(tmp_path / "none"))
    (tmp_path / "grid.json").write_text('{"schema": "else"}')
    with pytest.raises(BratsError, match="not a version 1 brats_jax"):
        read_cells(GridFolder(tmp_path))
