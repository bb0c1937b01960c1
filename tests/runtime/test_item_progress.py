import contextlib
import os
import pty
import subprocess
import sys
import termios
import threading
import time
from types import SimpleNamespace

import pytest

from brats_jax.runtime import item_progress
from brats_jax.runtime.item_progress import ItemProgress, part_of


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets; the thread of the progress does not tick by itself."""
    now = [100.0]
    monkeypatch.setattr(item_progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(item_progress, "TICK_S", 3600.0)
    return now


def test_in_a_log_a_line_comes_when_nothing_else_was_printed_for_a_time_that_doubles(clock):
    lines = []
    with ItemProgress(2, "case", lines.append) as shown:
        shown.doing("reading A")
        for second in range(1, 101):
            clock[0] += 1
            if second == 10:
                shown.part("A", 0.0)
            if second >= 20:
                shown.part("A", second / 100)
            shown.tick()
        shown.computed()
        shown.update()
        for _ in range(60):  # the next case is a line of its own before so long a silence
            clock[0] += 1
            shown.part("B", 0.5)
            shown.tick()
    assert lines == [
        "reading A (case 1 of 2)",  # after 5 s
        "computing A (case 1 of 2): 0%",  # after 15 s
        "computing A (case 1 of 2): 35%, 1:05 left",  # after 35 s
        "computing A (case 1 of 2): 75%, 0:25 left",
    ]


def test_items_that_are_finished_soon_need_no_line(clock):
    lines = []
    with ItemProgress(50, "case", lines.append) as shown:
        for number in range(50):
            shown.part(f"case {number}", 0.2)
            clock[0] += 4
            shown.tick()
            shown.update()
    assert lines == []


def test_of_one_item_no_number_is_told(clock):
    lines = []
    with ItemProgress(1, "case", lines.append) as shown:
        clock[0] += 5
        shown.tick()  # nothing is known yet
        shown.part("A", 0.25)
        shown.tick()
    assert lines == ["computing A: 25%"]


def test_an_error_of_printing_is_raised_where_the_items_are(monkeypatch):
    def closed(_):
        raise BrokenPipeError

    monkeypatch.setattr(item_progress, "TICK_S", 0.01)
    monkeypatch.setattr(item_progress, "FIRST_LINE_S", 0.0)
    with ItemProgress(1, "case", closed) as shown:
        shown.part("A", 0.5)
        time.sleep(0.5)
        with pytest.raises(BrokenPipeError):
            shown.update()


def test_a_part_of_a_part_is_a_part():
    told = []
    second = part_of(told.append, 1, 4)
    assert part_of(None, 1, 4) is None
    second(0.0), second(0.5), second(1.0)
    assert told == [0.25, 0.375, 0.5]


def test_a_terminal_that_is_paused_does_not_stop_the_work(monkeypatch):
    """Ctrl-S pauses a terminal: whoever writes to it waits."""
    writes, resumed = threading.Event(), threading.Event()

    class PausedBar:
        def __init__(self, **_):
            self.n = 0

        def set_description_str(self, *_):
            pass

        def refresh(self):
            writes.set()
            resumed.wait(60)

        def close(self):
            pass

    monkeypatch.setattr(item_progress, "tqdm", PausedBar)
    monkeypatch.setattr(item_progress, "TICK_S", 0.01)
    monkeypatch.setattr(item_progress.sys, "stderr", SimpleNamespace(isatty=lambda: True))
    with ItemProgress(1, "case") as shown:
        assert writes.wait(10)
        work = threading.Thread(target=shown.part, args=("A", 0.5), daemon=True)
        work.start()
        work.join(5)
        goes_on = not work.is_alive()
        resumed.set()
    assert goes_on


def test_on_a_terminal_the_bar_moves_within_an_item():
    code = (
        "import time\n"
        "from brats_jax.runtime import item_progress\n"
        "item_progress.TICK_S = 0.05\n"
        "with item_progress.ItemProgress(2, 'case') as shown:\n"
        "    shown.doing('reading A'); time.sleep(0.5)\n"
        "    shown.part('A', 0.5); time.sleep(0.5)\n"
        "    item_progress.print_line('A: done'); shown.update()\n"
        "    shown.update()\n"
    )
    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (30, 100))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=terminal, text=True
    )
    os.close(terminal)
    shown = ""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(main, 1024):
            shown += part.decode()
    os.close(main)
    assert process.communicate(timeout=60)[0] == "A: done\n" and process.returncode == 0
    assert "case 1/2: reading A   0%|" in shown
    assert "case 1/2: A 50%  25%|" in shown and "case 2/2 100%|" in shown
