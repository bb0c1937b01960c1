"""The processes of this machine."""

import os
import subprocess
import sys

import pytest

from brats_jax.runtime import machine


def test_a_process_is_running_until_it_has_ended():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert machine.is_running(process.pid)
        process.stdin.close()
    assert not machine.is_running(process.pid)


@pytest.mark.skipif(not os.path.exists("/proc/self/ns/pid"), reason="needs /proc")
def test_another_program_of_this_machine_has_the_same_origin():
    program = "from brats_jax.runtime import machine; print(machine.origin())"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert shown.strip() == str(machine.origin())
    assert all(machine.origin().values())
