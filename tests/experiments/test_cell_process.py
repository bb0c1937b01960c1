"""What an attempt at a cell prints, records and ends with."""

import signal
import sys

import pytest
from grid_examples import BASE

from brats_jax.experiments.cell_process import Attempt, error_line, run_process
from brats_jax.runs.grid import read_record
from brats_jax.runtime.signals import StopRequests


@pytest.mark.parametrize(
    ("written", "status", "line"),
    [
        ("error: no luck\nlater words\n", 1, "no luck"),
        ("error: first\nerror: second\n", 1, "second"),
        ("Traceback\n  KeyError: 1\n\n", 1, "KeyError: 1"),
        ("", 3, "status 3"),
        ("error: no luck\n", -signal.SIGTERM, "killed by SIGTERM"),
        ("", -signal.SIGKILL, "killed by SIGKILL, perhaps for want of memory"),
        ("", -40, "killed by signal 40"),  # a real-time signal, which has no name
    ],
)
def test_the_error_of_an_attempt_is_its_last_error_line_or_its_signal(
    written, status, line, tmp_path
):
    log, before = tmp_path / "log", "error: of an earlier attempt\n"
    log.write_text(before + written)
    assert error_line(log, len(before), status) == line


def test_an_attempt_logs_all_lines_and_prints_those_without_indent(grid, capsys, tmp_path):
    attempt, log = Attempt(grid, BASE, ["command"]), tmp_path / "log"
    code = "print('begins'); print('  a table'); print('ends'); raise SystemExit(3)"
    with log.open("ab") as file, StopRequests() as stop:
        status = run_process([sys.executable, "-c", code], file, 0, attempt, stop, 0.02)
    assert status == 3 and log.read_text() == "begins\n  a table\nends\n"
    assert capsys.readouterr().out == "  begins\n  ends\n"


def test_attempts_are_counted_unless_they_are_forgotten(grid):
    Attempt(grid, BASE, ["command"]).end("failed", "no luck")
    again = Attempt(grid, BASE, ["command"])
    assert again.number == 2 and read_record(grid, BASE).state == "running"
    again.forget()
    record = read_record(grid, BASE)
    assert (record.attempts, record.state, record.error) == (1, "failed", "no luck")
