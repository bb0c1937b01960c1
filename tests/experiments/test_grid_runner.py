"""How a grid runs its cells, which are stand-ins here."""

import dataclasses
import os
import threading
import time

from document_examples import record_of, write_tally_head
from grid_examples import (
    BASE,
    PRETRAIN,
    SSL,
    THREE,
    behave,
    calls,
    finish,
    hold,
    run,
    runner,
    states,
)

from brats_jax.runs.grid import progress_of, read_record


def test_a_cell_whose_tally_is_missing_or_old_is_evaluated_again(grid):
    assert run(grid) == {}
    tally = BASE.fold_folder(grid).tally("segment")
    spoils = (
        lambda: write_tally_head(tally, "segment", version=1),
        lambda: write_tally_head(tally, "pretrain"),
        lambda: tally.write_bytes(tally.read_bytes()[:-30]),
        lambda: tally.write_text("else"),
        tally.unlink,
    )
    for spoil in spoils:
        spoil()
        assert states(grid) == ["done", "left", "done"]
        assert progress_of(grid, BASE).seconds > 0
        assert run(grid) == {} and calls(grid)[-1] == BASE.name
    assert len(calls(grid)) == 3 + len(spoils) and states(grid) == ["done"] * 3


def test_cells_are_done_in_order_and_once(grid, capsys):
    assert run(grid) == {}
    assert calls(grid) == [c.name for c in THREE] and states(grid) == ["done"] * 3
    printed = capsys.readouterr().out
    assert f"  begins {BASE.name}\n" in printed and "grid: 2 of 3 done, 1 left; about " in printed
    record = read_record(grid, BASE)
    assert record.state == "done" and record.attempts == 1 and record.seconds > 0
    assert f"begins {BASE.name}" in grid.cell_log(BASE.name).read_text()
    assert run(grid) == {}
    assert len(calls(grid)) == 3 and "3 of 3 cells complete, skipped" in capsys.readouterr().out


def test_a_cell_whose_worker_was_killed_at_its_very_end_is_recorded_as_done(grid):
    assert run(grid) == {}
    path = grid.cell_json(BASE.name)
    killed = dataclasses.replace(read_record(grid, BASE), state="running", ended_s=None)
    killed.write(path)
    assert run(grid) == {} and len(calls(grid)) == 3
    record = read_record(grid, BASE)
    assert record.state == "done" and record.attempts == 1 and record.ended_s > 0


def test_a_failed_cell_is_named_and_the_others_continue(grid, capsys):
    behave(grid, BASE, "fails")
    assert run(grid) == {BASE: f"no luck with {BASE.name}"}
    assert states(grid) == ["done", "failed", "done"]
    printed = capsys.readouterr().out
    assert f"{BASE.name} FAILED: no luck" in printed
    assert "grid: 1 of 3 done, 1 failed, 1 left; about " in printed
    # Called again, it is tried again, and alone.
    behave(grid, BASE, "works")
    assert run(grid) == {} and calls(grid)[3:] == [BASE.name]
    record = read_record(grid, BASE)
    assert record.attempts == 2 and record.state == "done" and record.error == ""


def test_a_cell_whose_pretraining_failed_is_not_started(grid):
    behave(grid, PRETRAIN, "dies")
    failed = run(grid)
    assert failed == {
        PRETRAIN: "killed by SIGKILL, perhaps for want of memory",
        SSL: f"not started: {PRETRAIN.name}, which it needs, failed",
    }
    assert calls(grid) == [PRETRAIN.name, BASE.name]


def test_a_cell_that_ends_without_results_has_failed(grid):
    (grid.path / "stand_in.py").write_text("print('fine')")
    assert run(grid, [BASE]) == {BASE: "fine"}


def test_a_shard_trains_a_pretraining_that_no_other_works_on(grid):
    assert run(grid, [SSL]) == {}
    assert calls(grid) == [PRETRAIN.name, SSL.name]


def test_a_cell_in_use_by_another_worker_is_postponed(grid, capsys):
    """The pretraining is another's: first everything else, then wait for it."""
    descriptor = hold(PRETRAIN.fold_folder(grid).lock)

    def ended():
        finish(grid, PRETRAIN, 1.0)
        os.close(descriptor)

    threading.Timer(1.0, ended).start()
    assert run(grid) == {}
    assert calls(grid) == [BASE.name, SSL.name]
    printed = capsys.readouterr().out
    assert f"{SSL.name}: waits for {PRETRAIN.name}" in printed
    assert printed.count("in use by far away, process 7") == 1


def test_a_cell_that_another_worker_abandoned_is_taken_over(grid):
    descriptor = hold(PRETRAIN.fold_folder(grid).lock)
    threading.Timer(0.5, os.close, [descriptor]).start()
    assert run(grid, [PRETRAIN, SSL]) == {}
    assert calls(grid) == [PRETRAIN.name, SSL.name]


def test_two_workers_at_once_start_each_cell_once(grid):
    """A cell is slow to lock its folder: it loads its libraries first."""
    stand_in = grid.path / "stand_in.py"
    stand_in.write_text("import time\ntime.sleep(0.7)\n" + stand_in.read_text())
    workers = [runner(grid) for _ in range(2)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while "running" not in states(grid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for thread in threads:
        thread.join(60)
    assert sorted(calls(grid)) == sorted(c.name for c in THREE) and states(grid) == ["done"] * 3
    assert not workers[0].failed and not workers[1].failed


def test_a_cell_that_failed_in_another_worker_is_not_repeated_at_once(grid):
    worker = runner(grid, [BASE])
    record = record_of(BASE.name, state="failed", error="no luck there", ended_s=time.time() + 1)
    record.write(grid.cell_json(BASE.name))
    assert worker.run() == {BASE: "no luck there"}
    assert not (grid.path / "calls").exists()


def test_a_worker_that_finds_a_cell_busy_tries_again(grid):
    """Another takes the cell between our look and our start."""
    behave(grid, BASE, "busy")
    assert run(grid, [BASE]) == {} and calls(grid) == [BASE.name] * 2
    assert read_record(grid, BASE).attempts == 1
