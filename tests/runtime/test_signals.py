import os
import signal
import subprocess
import sys

import pytest

from brats_jax.runtime.signals import Interrupted, StopRequests


def test_a_stop_request_is_recorded_and_the_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequests() as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop and stop.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_further_signals_within_seconds_do_not_end_a_save():
    """A cluster sends several to every process; afterwards the handlers are the old ones."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopRequests() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.signal_number == signal.SIGTERM
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


COMMAND = """
import os, signal, sys
from brats_jax.runtime.signals import Interrupted, StopRequests, raise_on_first_signal
def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)
raise_on_first_signal()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_cleans_up_after_a_signal_is_not_ended_by_the_next(number):
    code = COMMAND + (
        "try:\n"
        f"    send({int(number)})\n"
        "except KeyboardInterrupt as error:\n"
        "    send(signal.SIGTERM, signal.SIGINT, signal.SIGTERM)\n"
        "    print('cleaned up after', type(error).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    name = "Terminated" if number == signal.SIGTERM else "KeyboardInterrupt"
    assert (done.returncode, done.stdout) == (0, f"cleaned up after {name}\n"), done.stderr


def test_a_command_that_has_saved_ends_with_its_own_status_whatever_follows():
    code = COMMAND + (
        "try:\n"
        "    with StopRequests() as stop:\n"
        "        send(signal.SIGTERM)\n"
        "        raise Interrupted(stop.signal_number)\n"
        "finally:\n"
        "    send(signal.SIGTERM, signal.SIGINT)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 143 and done.stderr == ""


def test_a_background_process_of_a_shell_keeps_ignoring_ctrl_c():
    code = (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        + COMMAND
        + "send(signal.SIGINT)\nprint('goes on')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "goes on\n")


def test_the_exit_status_is_128_plus_the_signal():
    with pytest.raises(SystemExit) as caught:
        raise Interrupted(signal.SIGTERM)
    assert caught.value.code == 143


# The main thread waits in a lock of C, which no signal interrupts, as it waits for a compilation.
BUSY = (
    COMMAND
    + """
import ctypes, threading
from brats_jax.runtime import signals
signals.NOTICE_AFTER_S = 0
libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
def compute():
    libc.pthread_mutex_lock(mutex)
    threading.Thread(target=unlock, daemon=True).start()
    threading.Timer(0.5, send, (signal.SIGINT,)).start()
    libc.pthread_mutex_lock(mutex)
def unlock():
    sys.stdin.readline()
    libc.pthread_mutex_unlock(mutex)
"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="of zeros is a mutex on Linux alone")
@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("compute()", "stopping once the running computation ends; Ctrl-\\ ends at once"),
        ("with StopRequests() as stop: compute(); raise Interrupted(stop.signal_number)",
         "stopping after this step, then saving; Ctrl-\\ ends at once, without saving"),
    ],
)  # fmt: skip
def test_ctrl_c_within_a_computation_is_answered_before_it_ends(body, line):
    with subprocess.Popen(
        [sys.executable, "-c", BUSY + body],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr.readline() == line + "\n"
        assert process.poll() is None  # nobody has unlocked: it still waits
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(60) in (130, -signal.SIGINT)
