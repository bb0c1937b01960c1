"""The wrapper of all commands, around a stand-in; the flags of every command; brats-jax."""

import os
import signal
import subprocess
import sys

import pytest
from processes import ROOT

from brats_jax.about import __version__
from brats_jax.runtime.cli import COMMANDS

STAND_IN = """
import errno, os, signal, sys
from absl import flags
from brats_jax.errors import BratsError, Busy
from brats_jax.runtime import cli, flag_types
from brats_jax.runtime.console import print_line
from brats_jax.runtime.files import write_text

FILE = flags.DEFINE_string("file", "", "")

def command():
    BODY

cli.run(command, folder=lambda: "FOLDER", after_stop="give it again")
"""


def run(body, *arguments, **options):
    """(status, output, errors) of a command that does `body`."""
    program = STAND_IN.replace("BODY", body)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        **{"stdout": subprocess.PIPE, **options}, stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("body", "status", "errors"),
    [
        ("print_line('done')", 0, ""),
        ("return 3", 3, ""),
        ("raise BratsError('no such run')", 1, "error: no such run\n"),
        ("raise Busy('RUN: in use')", 75, "error: RUN: in use\n"),
        ("open('/none/file')", 1, "error: /none/file: No such file or directory\n"),
        ("raise OSError(errno.ENOSPC, 'No space left on device')", 1,
         "error: FOLDER: No space left on device; free some space, and give the same command "
         "again\n"),
        ("raise OSError('HDF5 failed')", 1, "error: FOLDER: HDF5 failed\n"),
        ("raise KeyboardInterrupt", 130, "stopped: give it again\n"),
        ("os.kill(os.getpid(), signal.SIGINT)", 130, "stopped: give it again\n"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143, "stopped: give it again\n"),
    ],
)  # fmt: skip
def test_each_end_of_a_command_has_its_status_and_line(body, status, errors):
    assert run(body)[::2] == (status, errors)


def test_within_a_command_the_collector_runs_less_often():
    status, printed, _ = run("import gc; print(*gc.get_threshold())")
    # Python's own are 700, 10 and 10 in 3.11, and 2000 and 10 in later versions.
    assert status == 0 and int(printed.split()[0]) > 10_000


def test_an_unexpected_exception_is_one_line_and_its_traceback_an_option():
    line = (
        "error: FOLDER: unexpected ZeroDivisionError: division by zero; BRATS_JAX_TRACEBACK=1 "
        "before the command shows where\n"
    )
    assert run("1 / 0")[::2] == (1, line)
    status, _, errors = run("1 / 0", env={**os.environ, "BRATS_JAX_TRACEBACK": "1"})
    assert status == 1 and errors.startswith("Traceback") and errors.endswith(line)


def test_a_line_cannot_act_on_the_terminal():
    body = "print_line('a\\x1b]0;title\\x07b'); raise BratsError('x\\x1b[2J\\ny\\u202e')"
    status, shown, errors = run(body)
    assert (status, shown) == (1, "a\\x1b]0;title\\x07b\n")
    assert errors == "error: x\\x1b[2J\\ny\\u202e\n"


def test_a_terminal_that_cannot_print_a_name_prints_it_with_replacements():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    assert run("print_line('M\xfcnchen')", env=environment) == (0, "M\\xfcnchen\n", "")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("def get_config(:", "c.py, line 1: invalid syntax: repair it"),
        ("x = 1", "c.py: it defines no get_config(): repair it"),
        ("\n1 / 0", "c.py, line 2: ZeroDivisionError: division by zero: repair it"),
        ("raise SystemExit(3)", "c.py, line 1: SystemExit: 3: repair it"),
        ("from ml_collections import ConfigDict as get_config", "no config.data.store"),
    ],
)
def test_a_configuration_that_cannot_be_run_is_one_line(tmp_path, text, line):
    (tmp_path / "c.py").write_text(text)
    done = brats_jax("main", f"--config={tmp_path}/c.py", f"--workdir={tmp_path}/run")
    assert done.returncode == 1 and line in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["c.py"]


def test_a_full_disk_names_the_file_that_is_being_written(tmp_path):
    body = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9)); "
    body += "write_text(__import__('pathlib').Path(FILE.value), 'ten bytes.')"
    line = (
        f"error: {tmp_path}/a: File too large; the limit on the size of a file is 9 bytes: raise "
        "it (ulimit -f), or choose fewer outputs\n"
    )
    assert run(body, f"--file={tmp_path}/a")[::2] == (1, line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_under_the_output_is_one_line():
    with open("/dev/full", "w") as full:
        status, _, errors = run("print_line('done')", stdout=full)
    assert (status, errors) == (
        1,
        "error: standard output: No space left on device; free some space, and give the same "
        "command again\n",
    )


def test_a_closed_output_pipe_ends_a_command_silently():
    reader, writer = os.pipe()
    os.close(reader)
    assert run("print_line('one')", stdout=writer)[::2] == (128 + signal.SIGPIPE, "")
    os.close(writer)


def test_a_wrong_value_of_a_flag_is_one_line():
    body = "print(flag_types.whole_numbers('shape', FILE.value.split(','), 3))"
    assert run(body, "--file=3,40,5")[1] == "(3, 40, 5)\n"
    for value in ("3,40", "3,40,-5", "3,40,0", "a,b,c", ""):
        message = f"error: --shape={value}: give 3 positive whole numbers\n"
        assert run(body, f"--file={value}")[::2] == (1, message)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_misspelt_flag_is_reported_before_any_library_is_loaded(command):
    program = (
        "import atexit, runpy, sys; sys.argv[0] = 'x'; "
        "atexit.register(lambda: print(*{'jax', 'h5py', 'nibabel', 'scipy', 'matplotlib'} "
        "& set(sys.modules))); "
        f"runpy.run_module('brats_jax.{command}', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--nonsense=1"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1 and done.stdout == "\n"
    assert done.stderr == "error: Unknown command line flag 'nonsense'\n"


def brats_jax(*arguments):
    program = "from brats_jax.runtime import cli; cli.main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=ROOT
    )


def test_brats_jax_lists_its_commands():
    shown = brats_jax("--help")
    lines = shown.stdout.splitlines()
    assert shown.returncode == 0 and brats_jax().stdout == shown.stdout
    for command in COMMANDS:
        (line,) = [line for line in lines if line.split()[:1] == [command]]
        assert line.endswith(".") and len(line) < 100
    unknown = brats_jax("trian")
    assert unknown.returncode == 1 and unknown.stderr.startswith("error: unknown command 'trian'; ")


def test_brats_jax_runs_a_command_as_python_does(tmp_path):
    made = brats_jax("phantom", f"--cases={tmp_path}", "--patients=1", "--shape=16,32,32")
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == f"{tmp_path}/Phantom-0-001: written\n"
    shown = brats_jax("phantom", "--help")
    # A path flag and a plain one: all flags of the command are listed.
    assert "--cases" in shown.stdout and "--patients" in shown.stdout and shown.returncode == 0
    assert "\nbrats_jax.phantom:\n" in shown.stdout and str(ROOT) not in shown.stdout
    for version in (brats_jax("--version"), brats_jax("phantom", "--version")):
        assert (version.returncode, version.stdout) == (0, f"brats_jax {__version__}\n")
