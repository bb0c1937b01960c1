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


def test_a_second_signal_has_its_usual_effect():
    code = (
        "import os, signal\n"
        "from brats_jax.runtime.signals import StopRequests\n"
        "with StopRequests():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGTERM and "still here" not in done.stdout


def test_the_exit_status_is_128_plus_the_signal():
    with pytest.raises(SystemExit) as caught:
        raise Interrupted(signal.SIGTERM)
    assert caught.value.code == 143
