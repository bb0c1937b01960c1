"""Programs in processes of their own, as a user starts them. Not tests."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# The tests' networks have one block a stage.
SHALLOW = (
    "import runpy, sys; from brats_jax.models import resnet; resnet.BLOCKS = (1, 1, 1, 1); "
    "runpy.run_module('brats_jax.' + sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def command(name, *arguments, cache=None):
    """(status, output, errors) of a command of the package; with a cache, on shallow networks."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)} if cache else None
    start = ["-c", SHALLOW, name] if cache else ["-m", f"brats_jax.{name}"]
    done = subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def run_python(program, *arguments, cwd, cache):
    """Runs a program that sees neither this folder nor PYTHONPATH; returns what it printed."""
    keep = {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *map(str, arguments)],
        cwd=cwd, env=os.environ | keep, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def holding(program, lock):
    """A process with the lock, which the program prints 'held' about; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def living_processes_of(group: int) -> list[str]:
    """Ids of the processes of a group that have not ended (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = path.read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state not in "ZX":
            found.append(path.parent.name)
    return found
