"""What a grid knows of its cells, read from their folders; cells here are stand-ins."""

import json
import os

import pytest
from grid_examples import (
    BASE,
    PRETRAIN,
    SSL,
    THREE,
    FakeStore,
    begin,
    config,
    finish,
    hold,
    states,
)

from brats_jax.errors import BratsError
from brats_jax.experiments import config as settings
from brats_jax.experiments import grid_state
from brats_jax.experiments.grid_cells import Axes, enumerate_cells
from brats_jax.runtime.files import write_json


def test_states_are_read_from_the_folders(grid):
    assert states(grid) == ["left", "left", "left"]
    finish(grid, PRETRAIN, 60.0)
    begin(grid, BASE, 30, 120, state="running", seconds=20.0)
    begin(grid, SSL, 0, 120, state="failed", seconds=4.0, error="no space")
    # The one noted as running is not: nobody holds its lock.
    assert states(grid) == ["done", "left", "failed"]
    descriptor = hold(grid / BASE.directory / "lock")
    progress = grid_state.look(grid, BASE)
    assert (progress.state, progress.share, progress.seconds) == ("running", 0.25, 20.0)
    assert progress.note == "step 30 of 120 (25%), far away, process 7"
    os.close(descriptor)


def test_complete_is_what_is_trained_and_evaluated_at_its_best_step(grid):
    finish(grid, BASE, 1.0)
    assert grid_state.is_done(grid, BASE)
    evaluation = grid / BASE.directory / "evaluation.json"
    whole = json.loads(evaluation.read_text())
    for spoilt in ({"checkpoints": {"segment": {"step": 4}}}, {"version": 0}):
        write_json(evaluation, {**whole, **spoilt})
        assert not grid_state.is_done(grid, BASE)
    for text in ("", "[]", "{}", '{"version": 3}', '{"version": 2, "check'):
        evaluation.write_text(text)
        assert not grid_state.is_done(grid, BASE)
    evaluation.unlink()
    assert not grid_state.is_done(grid, BASE)


def test_estimate_takes_cells_of_the_same_kind(grid):
    cells = enumerate_cells([Axes(folds=(0, 1))])  # 2 pretrainings, 6 + 6 segmentations
    look = [grid_state.look(grid, cell) for cell in cells]
    assert grid_state.estimate_seconds(look, 1) is None
    assert grid_state.summary_line(look) == "0 of 14 done, 14 left; time left not known yet"

    # Nothing finished: a quarter of the steps in 25 s promises 100 s, for the other kind too.
    begin(grid, cells[0], 30, 120, seconds=25.0)
    look = [grid_state.look(grid, cell) for cell in cells]
    assert grid_state.estimate_seconds(look, 1) == pytest.approx(75 + 13 * 100)

    finish(grid, cells[0], 60.0)
    finish(grid, cells[2], 100.0)
    finish(grid, cells[3], 200.0)
    begin(grid, cells[4], 40, 80, seconds=999.0)
    look = [grid_state.look(grid, cell) for cell in cells]
    # One pretraining at 60 s, nine and a half segmentations at 150 s.
    assert grid_state.estimate_seconds(look, 1) == pytest.approx(60 + 9.5 * 150)
    assert grid_state.estimate_seconds(look, 4) == pytest.approx((60 + 9.5 * 150) / 4)
    assert grid_state.estimate_seconds(look, 100) == pytest.approx((60 + 9.5 * 150) / 11)
    assert grid_state.estimate_seconds(look[2:4], 3) == 0


def test_status_in_words(grid):
    grid_state.extend(grid, config(), FakeStore(), Axes(losses=("focal",), folds=(0, 1)))
    cells = grid_state.cells_of(grid)
    pretrain_0, _, base_0, base_1, ssl_0, ssl_1 = cells
    finish(grid, pretrain_0, 60.0)
    finish(grid, base_0, 100.0)
    begin(grid, base_1, 0, 80, state="failed", error="the loss is not finite")
    begin(grid, ssl_0, 20, 80)
    begin(grid, ssl_1, 60, 80)
    descriptor = hold(grid / ssl_0.directory / "lock")
    text = grid_state.table(grid, [grid_state.look(grid, cell) for cell in cells])
    os.close(descriptor)
    # 60 + 100 + 75 + 25 seconds
    assert text.splitlines() == [
        f"{grid}: 2 of 6 done, 1 failed, 1 running, 2 left; about 4:20 more with 1 worker",
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


def test_a_cell_that_was_stopped_early_is_seen_to_be_begun(grid):
    """Before its first line of metrics, and before its first save."""

    def row():
        cells = [grid_state.look(grid, cell) for cell in grid_state.cells_of(grid)]
        return grid_state.table(grid, cells).splitlines()[3].split()[-1]

    assert row() == "-"
    (grid / PRETRAIN.directory / "pretrain").mkdir(parents=True)
    write_json(grid / PRETRAIN.directory / "pretrain" / "training.json", {"steps": 80})
    assert row() == "begun"
    (grid / PRETRAIN.directory / "pretrain" / "last" / "8").mkdir(parents=True)
    assert row() == "10%"


def test_a_grid_grows_by_axes_and_keeps_its_settings(grid):
    assert grid_state.cells_of(grid) == THREE
    more = Axes(losses=("dice_ce",), percents=(5,), folds=(0,))
    grid_state.extend(grid, config(seed=7, loss="dice_focal", folds=(3,)), FakeStore(), more)
    assert len(grid_state.cells_of(grid)) == 5 and set(THREE) < set(grid_state.cells_of(grid))
    before = (grid / "grid.json").read_bytes()
    with pytest.raises(BratsError, match=r"other settings \(segment.epochs: 30 -> 3\)"):
        grid_state.extend(grid, config(**{"segment.epochs": 3}), FakeStore(), more)
    other = FakeStore()
    other.fingerprint = "other"
    with pytest.raises(BratsError, match="was started on another store"):
        grid_state.extend(grid, config(), other, more)
    assert (grid / "grid.json").read_bytes() == before


def test_a_folder_without_grid_has_no_status(tmp_path):
    with pytest.raises(BratsError, match="no grid there"):
        grid_state.cells_of(tmp_path / "none")
    (tmp_path / "grid.json").write_text('{"schema": "else"}')
    with pytest.raises(BratsError, match="not a version 1 grid"):
        grid_state.cells_of(tmp_path)


def test_the_grid_leaves_to_its_cells_only_what_they_set(grid):
    given = {flag.split("=")[0].removeprefix("--config.") for flag in SSL.flags(grid)}
    kept = json.loads((grid / "grid.json").read_text())["config"]
    flat = settings.differences(kept, config())
    assert {name.split(":")[0] for name in flat} | {"folds"} == given - {"--workdir"} | {"folds"}
