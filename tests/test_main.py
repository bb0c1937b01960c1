"""The command in processes of its own: flags, exit status, and continuing after a kill."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from brats_jax.runs import checkpoints
from brats_jax.runs.metrics_jsonl import read_metrics

ROOT = Path(__file__).parent.parent
NO_PICTURES = "--config.evaluation.panels=0"  # `whole` draws them
LIMIT_S = 1200  # of a command, on a machine that others use too
LIGHT = "tests.pointwise"  # the command with a pretraining that compiles in a moment


def command(workdir, store, cache, *flags, config="tests/tiny_config.py", module="brats_jax.main"):
    return [
        *(sys.executable, "-m", module, f"--config={config}", f"--workdir={workdir}"),
        *(f"--config.data.store={store}", f"--config.compilation_cache={cache}", *flags),
        *(["--config.train.save_every_steps=4"] if config == "tests/tiny_config.py" else []),
    ]


def run(*arguments, **options):
    done = subprocess.run(
        *arguments, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, **options
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.los=focal"], "config.los; valid here: "),
        (["--config.los=focal"], 'Did you mean "loss"'),
        (
            ["--config.data.stor=X"],
            "config.data.stor; valid here: label_fraction, label_patients, num_folds, other_",
        ),
        (["--config.seed=many"], "config.seed=many"),
        (["--confg=x"], "Unknown command line flag 'confg'"),
        (["--config.folds=7"], "valid are 0 to 4"),
        (["--mode=test"], "unknown --mode=test; valid: train, pretrain, evaluate"),
        (["extra"], "unexpected argument 'extra'; give options as --name=value"),
    ],
)
def test_a_wrong_flag_is_one_line(tmp_path, flags, message):
    # Not the tests' configuration, which imports JAX.
    store = tmp_path / "store"
    store.mkdir()
    (store / "manifest.json").touch()  # so that the store is not missing
    start = command(tmp_path / "run", store, "", *flags, config="configs/base.py")
    status, _, error = run(start)
    assert status == 1
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/none.py"], f"configs/none.py: no such configuration in {ROOT} or of"),
        (["--workdir=x"], "give --config=configs/NAME.py"),
        (
            ["--config=configs/ssl.py", "--workdir=x", "--config.data.store=nowhere"],
            "there is no store at nowhere: make one with python -m brats_jax.prepare",
        ),
    ],
)
def test_a_missing_flag_is_one_line(arguments, message):
    status, _, error = run([sys.executable, "-m", "brats_jax.main", *arguments])
    assert status == 1 and message in error and error.count("\n") == 1
    assert not (ROOT / "x").exists()


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        (["--config.data.store=nowhere"], "nowhere"),
        (["--config.data.store=STORE", "--config.data.other_planes=STORE, gone"], "gone"),
    ],
)
@pytest.mark.parametrize("module", ["main", "grid"])
def test_a_missing_store_is_found_before_jax_is_imported(tmp_path, module, flags, missing):
    (tmp_path / "manifest.json").touch()  # of a store that is there
    flags = [flag.replace("STORE", str(tmp_path)) for flag in flags]
    start = f"from brats_jax.{module} import run_main; run_main()"
    code = f"import sys; sys.modules['jax'] = None; {start}"
    status, _, error = run(
        [sys.executable, "-c", code, "--config=configs/base.py", f"--workdir={tmp_path}/x", *flags]
    )
    assert status == 1 and error.startswith(f"error: there is no store at {missing}: make one")
    assert error.count("\n") == 1


def test_help_names_the_flags():
    status, out, _ = run([sys.executable, "-m", "brats_jax.main", "--help"])
    assert "--workdir" in out and "--mode" in out and status in (0, 1)


@pytest.mark.parametrize(
    ("variable", "store"), [({}, "stores/default"), ({"BRATS_JAX_STORE": "mine"}, "mine")]
)
def test_from_any_folder_without_a_store_the_error_says_how_to_make_one(tmp_path, variable, store):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variable}
    done = subprocess.run(
        [sys.executable, "-m", "brats_jax.main", "--config=configs/ssl.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr == (
        f"error: there is no store at {store}: make one with "
        f"python -m brats_jax.prepare --source=DIR --store={store} "
        "(--source=phantom needs no data)\n"
    )
    assert list(tmp_path.iterdir()) == []


def state_at_the_end(directory):
    with checkpoints.ocp.CheckpointManager(directory.absolute()) as manager:
        step = manager.latest_step()
        arguments = checkpoints.ocp.args.Composite(state=checkpoints.ocp.args.StandardRestore())
        return step, jax.device_get(manager.restore(step, args=arguments).state)


def numbers(directory):
    records = read_metrics(directory / "metrics.jsonl")
    return [{k: v for k, v in r.items() if k != "patches_per_second"} for r in records]


def steps_logged(directory):
    return max([r["step"] for r in read_metrics(directory / "metrics.jsonl")], default=0)


def kill_when(arguments, moment, signal_number):
    """Starts the command, sends the signal once `moment()` holds, returns status and output."""
    process = subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + LIMIT_S
    while not moment() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal_number)
    output = process.communicate(timeout=LIMIT_S)[0]
    return process.returncode, output


@pytest.fixture(scope="module")
def whole(small_store, compiled_programs, tmp_path_factory):
    """The run folder of both stages, never interrupted."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    status, _, error = run(command(workdir, small_store.path, compiled_programs))
    assert status == 0, error
    return workdir


def assert_same_bits(one, other):
    """Of the checkpoints of two stage folders, and of what was logged."""
    for which in ("last", "best"):
        there, here = (state_at_the_end(folder / which) for folder in (one, other))
        assert there[0] == here[0]
        jax.tree.map(np.testing.assert_array_equal, there[1], here[1])
    assert numbers(one) == numbers(other)


def test_a_run_that_is_killed_repeatedly_has_the_same_bits(
    small_store, compiled_programs, tmp_path, whole
):
    """After a full disk, too, and with a loader process, which changes no bit either."""
    killed = tmp_path / "killed"
    given = (killed, small_store.path, compiled_programs, NO_PICTURES)
    again = command(*given)
    fold = killed / "fold_0"
    pretrain, segment = fold / "pretrain", fold / "segment"
    # A limit on the size of files, above that of config.json, stands for a disk that is full before
    # the first save.
    limit = (5_000, 5_000)
    status, _, error = run(
        command(*given, module=LIGHT),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert status == 1 and error.count("\n") == 1, error
    assert error.startswith(f"error: {pretrain / 'last'}: File too large; ")
    # After the save within the first epoch; then Ctrl-C, which saves and ends with the shell's exit
    # status for it. test_trainer kills at other moments.
    status, output = kill_when(again, (pretrain / "last" / "4").is_dir, signal.SIGKILL)
    assert status == -signal.SIGKILL and "Traceback" not in output, output
    assert 4 <= steps_logged(pretrain) < 16
    with_a_process = [*again, "--config.data.workers=1"]
    status, output = kill_when(with_a_process, (segment / "last" / "4").is_dir, signal.SIGINT)
    assert status == 128 + signal.SIGINT and "Traceback" not in output, output
    assert "fold 0 pretrain: continues from step " in output
    assert "stopped at step" in output and "and saved" in output
    assert 4 <= steps_logged(segment) < 16
    status, output, error = run(again)
    assert status == 0, error
    assert "fold 0 pretrain: complete, skipped" in output
    assert "fold 0 segment: continues from step " in output

    for stage in ("pretrain", "segment"):
        assert_same_bits(whole / "fold_0" / stage, fold / stage)
    there, here = (
        json.loads((run / "fold_0" / "evaluation.json").read_text()) for run in (whole, killed)
    )
    there["files"], pictures = (
        [name for name in there["files"] if name.startswith("panels/") == panel]
        for panel in (False, True)
    )
    seals = {one.pop("sha256") for one in (there, here)}  # they cover the names of the pictures
    assert there == here and pictures and len(seals) == 2


def test_a_closed_output_pipe_saves_and_ends_silently(small_store, compiled_programs, tmp_path):
    """As with `| head`."""
    given = (tmp_path / "run", small_store.path, compiled_programs)
    again = command(*given, "--mode=pretrain", NO_PICTURES, module=LIGHT)
    pipe = subprocess.PIPE
    process = subprocess.Popen(again, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
    while "trains on" not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()
    # The stage has two epochs of eight steps; the line of the first one finds the pipe closed.
    assert process.stderr.read() == "" and process.wait(timeout=LIMIT_S) == 141
    meta = checkpoints.read_meta(tmp_path / "run" / "fold_0" / "pretrain" / "last")
    assert 0 < meta.step < 16


def test_a_stopped_evaluation_prints_how_to_continue(
    small_store, compiled_programs, tmp_path, whole
):
    shutil.copytree(whole, tmp_path / "run")
    again = command(tmp_path / "run", small_store.path, compiled_programs, "--mode=evaluate")
    evaluation = tmp_path / "run" / "fold_0" / "evaluation.json"
    status, output = kill_when(again, lambda: not evaluation.exists(), signal.SIGTERM)
    assert status == 143 and output.splitlines()[-1].startswith(
        "stopped: the same command continues"
    )


def test_a_killed_grid_continues_and_has_the_same_bits(
    small_store, compiled_programs, tmp_path, whole
):
    """Cells: pretraining, baseline, fine-tuning. The second one fails, the third is killed; the
    grid is moved before it continues. test_grid_runner repeats the cell that has failed."""
    grid = tmp_path / "grid"
    again = command(grid, small_store.path, compiled_programs, "--losses=dice_ce", NO_PICTURES)
    again[again.index("brats_jax.main")] = "brats_jax.grid"
    base, ssl = (
        grid / "runs" / f"dice_ce-{how}-labels_100-seed_0" / "fold_0" for how in ("base", "ssl")
    )
    last = base / "segment" / "last"  # a broken checkpoint for the second cell
    (last / "3").mkdir(parents=True)
    status, output = kill_when(again, lambda: steps_logged(ssl / "segment") >= 12, signal.SIGKILL)
    assert status == -signal.SIGKILL, output
    with contextlib.suppress(ProcessLookupError, IndexError):  # the cell, if it still runs
        os.kill(int((ssl / "lock").read_text().split()[-1]), signal.SIGKILL)

    moved = grid.rename(tmp_path / "moved")
    again = [word.replace(str(grid), str(moved)) for word in again]
    last, ssl = (moved / path.relative_to(grid) for path in (last, ssl))
    status, output, _ = run(again)
    assert status == 1
    assert "grid: 1 of 3 cells complete, skipped" in output
    assert "fold 0 segment: continues from step " in output
    assert "grid: 1 cell failed; the same command repeats them:" in output
    assert f"  dice_ce-base-labels_100-seed_0-fold_0: {last / '3'}: not a readable" in output
    assert "2 of 3 done, 1 failed" in output
    assert_same_bits(whole / "fold_0" / "segment", ssl / "segment")
    pretraining = moved / "pretraining" / "seed_0" / "fold_0" / "pretrain"
    assert_same_bits(whole / "fold_0" / "pretrain", pretraining)
