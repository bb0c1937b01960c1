"""A limit of no byte on the size of files stands in for a full disk, in every command."""

import os
import shutil
import subprocess
import sys

import pytest
from prediction_examples import CASES
from processes import ROOT, SHALLOW
from report_examples import write_run

from brats_jax.runtime.cli import COMMANDS


@pytest.fixture(scope="module")
def arguments(example_runs, small_store, tmp_path_factory):
    """By command its arguments, and what its error line starts with."""
    folder = tmp_path_factory.mktemp("disk")
    shutil.copytree(example_runs["volume"], folder, dirs_exist_ok=True)
    write_run(folder / "made", folds=(0,))
    tiny = ("--config=tests/tiny_config.py", f"--config.data.store={small_store.path}")
    run = (f"--checkpoint={folder}/run",)
    return {
        "prepare": (
            ["--source=phantom", "--patients=1", "--shape=16,32,32", f"--store={folder}/s"],
            f"{folder}/s",
        ),
        "main": ([*tiny, f"--workdir={folder}/new"], f"{folder}/new/"),
        "grid": ([*tiny, f"--workdir={folder}/grid"], f"{folder}/grid/"),
        "report": ([f"--workdir={folder}/made"], f"{folder}/made/report"),
        "predict": (
            [*run, f"--input={folder}/cases/{CASES[0]}", f"--output={folder}/p"],
            f"case {CASES[0]}: {folder}/p/",
        ),
        "calibrate": ([f"--checkpoint={folder}/run/fold_0"], f"{folder}/run/fold_0/calibration"),
        "export": ([*run, f"--output={folder}/e"], f"{folder}/e/"),
        "phantom": (
            [f"--cases={folder}/c", "--patients=1", "--shape=16,32,32"],
            f"{folder}/c/Phantom-0-001/Phantom-0-001_",
        ),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line_that_names_the_file(command, arguments, compiled_programs):
    given, begins = arguments[command]
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(compiled_programs),
        # JAX warns where it cannot keep a program.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1000",
    }
    start = ("bash", "-c", 'ulimit -f 0; exec "$@"', "-", sys.executable, "-c", SHALLOW)
    done = subprocess.run(
        [*start, command, *given],
        cwd=ROOT, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error: {begins}") and done.stderr.count("\n") == 1, done.stderr
    assert "File too large" in done.stderr
