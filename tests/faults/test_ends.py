"""A command that was stopped, or whose fellow was, ends in order: no crash of native code."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

END = """
import atexit, os, sys
from brats_jax.errors import BratsError
from brats_jax.runtime import cli
from brats_jax.runtime.signals import Interrupted

atexit.register(os.abort)  # of a library that fails while the interpreter is torn down

def command():
    print("said")
    {body}

cli.run(command, folder=lambda: None, after_stop="give it again")
"""


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("raise Interrupted(15)", 143),
        ("os.kill(os.getpid(), 15)", 143),
        ("raise KeyboardInterrupt", 130),
        ("raise BratsError('no')", 1),
        ("return 3", 3),
    ],
)
def test_what_fails_while_the_interpreter_ends_does_not_change_the_status(body, status):
    program = END.format(body=body)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (status, b"said\n")


@pytest.mark.parametrize("error", ["BratsError('damaged: remove it')", "ValueError('Orbax')"])
def test_an_error_that_a_library_makes_of_a_stop_is_none(error):
    """Orbax calls a checkpoint unreadable if a signal stops its reading: nobody must remove it."""
    body = f"""try:
        os.kill(os.getpid(), 15)
    except KeyboardInterrupt:
        raise {error} from None"""
    program = END.format(body=body)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, b"stopped: give it again\n")


LOST = """
import gc, os, signal, sys, time
from brats_jax.runtime import cli

NUMBER = int(sys.argv.pop())

def callback(phase, facts):
    if NUMBER not in seen:
        seen.append(NUMBER)
        os.kill(os.getpid(), NUMBER)

def command():
    gc.callbacks.append(callback)  # as JAX has one
    gc.collect()
    time.sleep(20)

seen = []
cli.run(command, folder=lambda: None, after_stop="give it again")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_within_a_callback_of_the_garbage_collector_stops_the_command(number):
    """Python drops an exception that is raised there, and the command would go on, deaf to all."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LOST, str(int(number))], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (128 + number, "stopped: give it again\n")
    assert time.monotonic() - began < 15


PAIR = """
import sys, time
from brats_jax.runtime import cli, distributed

def command():
    port, index = sys.argv.pop(), int(sys.argv.pop())
    distributed.initialize(f"127.0.0.1:{port}", 2, index)
    print("works", flush=True)
    # As the main process evaluates, while the others wait for it.
    return distributed.broadcast_from_main(lambda: time.sleep(3) or 0)

sys.argv, rest = sys.argv[:1], sys.argv[1:]
def with_rest():
    sys.argv += rest
    return command()
cli.run(with_rest, folder=lambda: None, after_stop="give it again")
"""


def test_the_main_process_ends_well_though_another_one_was_stopped_while_it_evaluated():
    """JAX would wait a hundred seconds for the other one, and then abort."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", PAIR, str(index), str(port)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        for index in (0, 1)
    ]  # fmt: skip
    try:
        for process in pair:
            assert process.stdout.readline() == "works\n"
        pair[1].send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert [process.wait(60) for process in pair] == [0, 143]
        assert time.monotonic() - began < 30
        assert pair[0].stderr.read() == ""
    finally:
        for process in pair:
            process.kill()
            process.communicate()
