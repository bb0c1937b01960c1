import signal
import subprocess
import sys
import time

import pytest

from brats_jax.runtime import console
from brats_jax.runtime.console import log_if_slow, progress_bar


def test_outside_a_terminal_progress_is_a_line_at_growing_intervals(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with progress_bar(1000, "fold 0 segment", "slice", first=100) as shown:
        for _ in range(900):
            now[0] += 1
            shown.update()
    assert shown.n == 1000
    # 900 seconds: after 60 of them, then each time after half as many again.
    assert capsys.readouterr().out.splitlines() == [
        f"fold 0 segment: slice {done}/1000  {left} left"
        for done, left in (
            (160, "14:00"), (190, "13:30"), (235, "12:45"), (303, "11:37"),
            (405, "9:55"), (558, "7:22"), (787, "3:33"),
        )
    ]  # fmt: skip


def test_the_time_left_does_not_count_the_wait_for_the_first_item(monkeypatch, capsys):
    """Which may be for a compiler: 300 s, and then 1 s for each item."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with progress_bar(1000, "fold 0 segment", "step") as shown:
        now[0] += 300
        shown.update()
        for _ in range(200):
            now[0] += 1
            shown.update()
    assert capsys.readouterr().out.splitlines() == [
        "fold 0 segment: step 1/1000",
        "fold 0 segment: step 151/1000  14:09 left",
    ]


def test_only_slow_work_is_logged(capsys):
    with log_if_slow("compiles", after_s=0.05):
        time.sleep(0.5)
    with log_if_slow("is quick"):
        pass
    assert capsys.readouterr().out == "compiles\n"


@pytest.mark.parametrize("stops", [True, False])
def test_a_closed_output_pipe_requests_a_stop_or_ends_the_program_silently(stops):
    """As with `| head`: within StopRequests a loop can save first, and later lines are lost."""
    code = (
        "import contextlib, sys\n"
        "from brats_jax.runtime.signals import StopRequests\n"
        "from brats_jax.runtime.console import print_line\n"
        "requests = StopRequests()\n"
        f"with requests if {stops} else contextlib.nullcontext():\n"
        "    print_line('one')\n"
        "    sys.stdin.readline()\n"
        "    print_line('two'), print_line('three')\n"
        "    print(requests.signal_number, file=sys.stderr)\n"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdout.readline() == "one\n"
    process.stdout.close()
    process.stdin.write("go on\n")
    process.stdin.close()
    assert process.stderr.read() == (f"{signal.SIGPIPE.value}\n" if stops else "")
    assert process.wait() == (0 if stops else 141)
