import json
import os
import signal
import subprocess
import sys
import time

import pytest

from brats_jax.runtime import console
from brats_jax.runtime.console import ProgressLog, bar, read_metrics, told_if_slow
from brats_jax.runtime.signals import Interrupted, StopRequests


def log_of(directory, first, validated):
    return ProgressLog(directory, "fold 0 segment", 40, first, validated)


def test_lines_that_will_be_written_again_are_dropped(tmp_path):
    log = log_of(tmp_path, 0, 0)
    log.write("step", 5, 1, {"mean_loss_of_epoch_so_far": 2.0})
    log.write("train", 10, 1, {"loss": 1.0})
    log.write("validation", 10, 1, {"loss": 1.5})
    log.write("step", 15, 2, {"mean_loss_of_epoch_so_far": 0.5})
    log.write("train", 20, 2, {"loss": 0.25})
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "val')  # what a kill leaves

    # The checkpoint is of step 20, saved before its validation was done.
    log_of(tmp_path, 20, 10).close()
    kept = [(r["event"], r["step"]) for r in read_metrics(tmp_path / "metrics.jsonl")]
    assert kept == [("step", 5), ("train", 10), ("validation", 10), ("step", 15)]
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


def test_damaged_lines_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    line = b'{"event": "train", "step": 1, "epoch": 1, "loss": 0.5}'
    path.write_bytes(b"\n".join([line, b"[]", b"3", b'{"step": 2}', b"\xff\x00", line, line[:20]]))
    assert [r["step"] for r in read_metrics(path)] == [1, 1]


def test_tensorboard_gets_the_numbers(tmp_path):
    log = log_of(tmp_path, 0, 0)
    log.write("validation", 10, 1, {"loss": 1.5})
    log.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"validation/loss" in events.read_bytes()


def test_a_log_file_hears_seldom_how_far_it_is(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with bar(1000, "fold 0 segment", "slice", first=100) as shown:
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


def test_what_is_slow_is_told_of(capsys):
    with told_if_slow("compiles", after_s=0.05):
        time.sleep(0.5)
    with told_if_slow("is quick"):
        pass
    assert capsys.readouterr().out == "compiles\n"


def test_quiet_but_for_a_line_an_epoch_when_not_a_terminal(tmp_path, capsys):
    log = log_of(tmp_path, 0, 0)
    for step in range(1, 21):
        log.step(step)
    log.epoch(20, "epoch 1/2  loss 0.5")
    log.close()
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("fold 0 segment: step 20/40  epoch 1/2  loss 0.5  0:0")
    assert out.count("\n") == 1


def test_a_stop_request_is_noted_and_the_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequests() as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop and stop.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_request_is_obeyed_at_once():
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


@pytest.mark.parametrize("listened_to", [True, False])
def test_without_a_reader_it_is_stopped_for_or_left_quietly(listened_to):
    """As by `| head`: a loop saves first, and no line raises any more; else the end is here."""
    code = (
        "import contextlib, sys\n"
        "from brats_jax.runtime.signals import StopRequests\n"
        "from brats_jax.runtime.console import say\n"
        "requests = StopRequests()\n"
        f"with requests if {listened_to} else contextlib.nullcontext():\n"
        "    say('one')\n"
        "    sys.stdin.readline()\n"
        "    say('two'), say('three')\n"
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
    assert process.stderr.read() == (f"{signal.SIGPIPE.value}\n" if listened_to else "")
    assert process.wait() == (0 if listened_to else 141)


def test_interrupted_exits_as_shells_expect():
    with pytest.raises(SystemExit) as caught:
        raise Interrupted(signal.SIGTERM)
    assert caught.value.code == 143
