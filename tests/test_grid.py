"""What a grid knows of its cells, and how it works through them; cells here are stand-ins."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from brats_jax import grid_runner, grid_state, settings, tallies
from brats_jax.cells import Axes, Cell, enumerate_cells
from brats_jax.errors import BratsError
from brats_jax.evaluated import EVALUATION_VERSION
from brats_jax.files import write_json
from brats_jax.grid_runner import GridRunner

# A stand-in for a training: notes that it was called, and ends as BEHAVIOUR/<cell> says.
STAND_IN = (
    f"EVALUATION_VERSION = {EVALUATION_VERSION}"
    + """
import json, os, shutil, signal, sys, time
from pathlib import Path
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
    manifest = {"source": {"kind": "phantom"}, "normalisation": "slice"}  # noqa: RUF012


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """A grid folder of one loss and one fold; `behave` says what a cell does."""
    monkeypatch.setattr(grid_runner, "LISTEN_S", 0.02)
    monkeypatch.setattr(grid_runner, "WAIT_S", 0.1)
    folder = tmp_path / "grid"
    grid_state.extend(folder, config(), FakeStore(), Axes(losses=("focal",), folds=(0,)))
    (folder / "behaviour").mkdir()
    (folder / "stand_in.py").write_text(STAND_IN)
    for stage in ("pretrain", "segment"):  # for the stand-in to copy
        write_tally(folder / f"tally_{stage}.npz", stage)
    return folder


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


def test_a_cell_whose_tally_is_gone_or_old_is_evaluated_again(grid):
    assert run(grid) == {}
    tally = grid / BASE.directory / "tally_segment.npz"
    spoils = (
        lambda: write_tally(tally, "segment", version=1),
        lambda: write_tally(tally, "pretrain"),
        lambda: tally.write_bytes(tally.read_bytes()[:-30]),
        lambda: tally.write_text("else"),
        tally.unlink,
    )
    for spoil in spoils:
        spoil()
        assert states(grid) == ["done", "left", "done"]
        assert grid_state.look(grid, BASE).seconds > 0
        assert run(grid) == {} and calls(grid)[-1] == BASE.name
    assert len(calls(grid)) == 3 + len(spoils) and states(grid) == ["done"] * 3


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


def test_cells_are_done_in_order_and_once(grid, capsys):
    assert run(grid) == {}
    assert calls(grid) == [c.name for c in THREE] and states(grid) == ["done"] * 3
    printed = capsys.readouterr().out
    assert f"  begins {BASE.name}\n" in printed and "grid: 2 of 3 done, 1 left; about " in printed
    record = grid_state.read_record(grid, BASE)
    assert record["state"] == "done" and record["attempts"] == 1 and record["seconds"] > 0
    assert f"begins {BASE.name}" in (grid / "logs" / f"{BASE.name}.log").read_text()
    assert run(grid) == {}
    assert len(calls(grid)) == 3 and "3 of 3 cells complete, skipped" in capsys.readouterr().out


def test_a_failed_cell_is_named_and_the_others_go_on(grid, capsys):
    behave(grid, BASE, "fails")
    assert run(grid) == {BASE: f"no luck with {BASE.name}"}
    assert states(grid) == ["done", "failed", "done"]
    printed = capsys.readouterr().out
    assert f"{BASE.name} FAILED: no luck" in printed
    assert "grid: 1 of 3 done, 1 failed, 1 left; about " in printed
    # Called again, it is tried again, and alone.
    behave(grid, BASE, "works")
    assert run(grid) == {} and calls(grid)[3:] == [BASE.name]
    record = grid_state.read_record(grid, BASE)
    assert record["attempts"] == 2 and record["state"] == "done" and record["error"] == ""


def test_what_needs_a_failed_pretraining_is_not_started(grid):
    behave(grid, PRETRAIN, "dies")
    failed = run(grid)
    assert failed == {
        PRETRAIN: "killed by SIGKILL, perhaps for want of memory",
        SSL: f"not started: {PRETRAIN.name}, which it needs, failed",
    }
    assert calls(grid) == [PRETRAIN.name, BASE.name]


def test_a_cell_that_ends_well_with_nothing_to_show_has_failed(grid):
    (grid / "stand_in.py").write_text("print('fine')")
    assert run(grid, [BASE]) == {BASE: "fine"}


def test_a_shard_does_a_pretraining_that_nobody_is_at(grid):
    assert run(grid, [SSL]) == {}
    assert calls(grid) == [PRETRAIN.name, SSL.name]


def test_what_another_worker_is_at_is_left_for_later(grid, capsys):
    """The pretraining is another's: first everything else, then wait for it."""
    descriptor = hold(grid / PRETRAIN.directory / "lock")

    def ended():
        finish(grid, PRETRAIN, 1.0)
        os.close(descriptor)

    threading.Timer(1.0, ended).start()
    assert run(grid) == {}
    assert calls(grid) == [BASE.name, SSL.name]
    printed = capsys.readouterr().out
    assert f"{SSL.name}: waits for {PRETRAIN.name}" in printed
    assert printed.count("another process is at it (far away, process 7)") == 1


def test_what_another_worker_gave_up_is_taken_over(grid):
    descriptor = hold(grid / PRETRAIN.directory / "lock")
    threading.Timer(0.5, os.close, [descriptor]).start()
    assert run(grid, [PRETRAIN, SSL]) == {}
    assert calls(grid) == [PRETRAIN.name, SSL.name]


def test_two_workers_at_once_start_each_cell_once(grid):
    """A cell is slow to lock its folder: it loads its libraries first."""
    stand_in = grid / "stand_in.py"
    stand_in.write_text("import time\ntime.sleep(0.7)\n" + stand_in.read_text())
    runners = [GridRunner(grid, THREE, command_of(grid)) for _ in range(2)]
    threads = [threading.Thread(target=runner.run) for runner in runners]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while "running" not in states(grid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for thread in threads:
        thread.join(60)
    assert sorted(calls(grid)) == sorted(c.name for c in THREE) and states(grid) == ["done"] * 3
    assert not runners[0].failed and not runners[1].failed


def test_what_another_worker_failed_in_is_not_tried_again_at_once(grid):
    runner = GridRunner(grid, [BASE], command_of(grid))
    write_json(
        grid_state.record_path(grid, BASE),
        {"state": "failed", "error": "no luck there", "ended_s": time.time() + 1},
    )
    assert runner.run() == {BASE: "no luck there"}
    assert not (grid / "calls").exists()


def test_a_worker_that_comes_too_late_tries_again(grid):
    """Another takes the cell between our look and our start."""
    behave(grid, BASE, "busy")
    assert run(grid, [BASE]) == {} and calls(grid) == [BASE.name] * 2
    assert grid_state.read_record(grid, BASE)["attempts"] == 1


DRIVER = """
import sys
from pathlib import Path
from brats_jax.cells import enumerate_cells, Axes
from brats_jax.grid_runner import GridRunner
grid = Path(sys.argv[1])
command = lambda c: [sys.executable, str(grid / "stand_in.py"), str(grid), c.name,
                     str(c.directory), c.stage]
GridRunner(grid, enumerate_cells([Axes(losses=("focal",), folds=(0,))]), command).run()
"""


def await_file(path, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_grid_takes_its_cell_along(grid, number):
    """SIGTERM is passed on, and waited for; a killed grid's cell saves and leaves by itself."""
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent is gone")
    behave(grid, BASE, "sleeps")
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(grid)], stdout=subprocess.PIPE, text=True
    )
    await_file(grid / "asleep")
    process.send_signal(number)
    printed = process.communicate(timeout=30)[0]
    await_file(grid / "saved", 10)
    assert calls(grid) == [PRETRAIN.name, BASE.name]
    assert states(grid) == ["done", "left", "left"]
    if number == signal.SIGTERM:
        assert process.returncode == 143
        assert f"stopped in {BASE.name}; the same command goes on from there" in printed
        assert grid_state.read_record(grid, BASE)["state"] == "stopped"
    behave(grid, BASE, "works")
    assert run(grid) == {} and calls(grid)[2:] == [BASE.name, SSL.name]
    assert grid_state.read_record(grid, BASE)["attempts"] == 2


def grid_command(*flags):
    environment = {**os.environ, "JAX_PLATFORMS": "none"}  # no device can be had
    done = subprocess.run(
        [sys.executable, "-m", "brats_jax.grid", *map(str, flags)],
        cwd=Path(__file__).parent.parent, env=environment,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_status_needs_no_device_and_no_settings(grid):
    finish(grid, BASE, 60.0)
    status, out, error = grid_command(f"--workdir={grid}", "--status")
    assert (status, error) == (0, "")
    assert out.startswith(f"{grid}: 1 of 3 done, 2 left; about 2:00 more with 1 worker\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.loss=focal"], "--config.loss differs within a grid; give --losses instead"),
        ([], "give --config.data.store=STORE"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(tmp_path, flags, message):
    status, _, error = grid_command(
        "--config=tests/tiny_config.py", f"--workdir={tmp_path}/grid", *flags
    )
    assert status == 1 and message in error and error.count("\n") == 1
    assert not (tmp_path / "grid").exists()


def test_the_grid_itself_never_touches_the_devices(small_store, tmp_path):
    """Where there are none, every cell fails, and the grid goes through all of them."""
    status, out, error = grid_command(
        "--config=tests/tiny_config.py", f"--workdir={tmp_path}/grid", "--losses=focal",
        f"--config.data.store={small_store.path}", "--ssl=false", "--config.folds=0,1",
        "--shard=1/2",
    )  # fmt: skip
    assert status == 1, error
    name = "focal-base-labels_100-seed_0-fold_1"
    assert "grid: 2 cells, of which these are 1 (--shard=1/2)" in out
    assert f"\n  {name}: " in out and "--config.folds=1 --config.seed=0" in out
    cell = Cell("segment", 0, 1, "focal")
    assert cell.name == name
    assert grid_state.look(tmp_path / "grid", cell).state == "failed"
