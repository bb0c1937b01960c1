"""Locks where flock succeeds for everybody, as on a file system that does not share it."""

import dataclasses
import fcntl
import json
import os
import signal
import threading
import time

import pytest
from processes import holding

from brats_jax.errors import Busy
from brats_jax.runtime import heartbeat, locks, machine

HOLD = """
import fcntl, sys, time
from pathlib import Path
fcntl.flock = lambda descriptor, operation: None
from brats_jax.runtime import heartbeat, locks
heartbeat.BEAT_S, heartbeat.STALE_S = 0.05, 1.0
with locks.hold(Path(sys.argv[1]), "fold"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """A lock file on such a file system; claims are stale after a second."""
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    for name, seconds in (("BEAT_S", 0.05), ("STALE_S", 1.0), ("WATCH_S", 0.5)):
        monkeypatch.setattr(heartbeat, name, seconds)
    return tmp_path / "fold_0" / "lock"


@pytest.fixture
def elsewhere(monkeypatch):
    """Lets this process take itself for one of another machine than the claims'."""
    monkeypatch.setattr(machine, "boot_id", lambda: "another")


def take(lock):
    with locks.hold(lock, "RUN/fold_0", patience_s=0.1):
        return json.loads(heartbeat.path_of(lock).read_text())


def test_the_claim_names_host_process_and_time_and_goes_with_the_lock(lock):
    claim = take(lock)
    assert claim["process"] == os.getpid() and claim["host"] and claim["time"].startswith("20")
    assert os.listdir(lock.parent) == ["lock"] and locks.holder(lock) is None


def test_a_second_process_of_the_machine_is_kept_out_until_the_first_is_killed(lock):
    with holding(HOLD, lock) as process:
        assert locks.holder(lock).endswith(f", process {process.pid}")
        with pytest.raises(Busy, match=f"RUN/fold_0: in use by .*, process {process.pid}; wait"):
            take(lock)
        process.kill()
        process.wait()
        assert locks.holder(lock) is None
        assert take(lock)["process"] == os.getpid()


def test_a_process_of_another_machine_is_kept_out_while_there_are_signs_of_life(lock, elsewhere):
    with holding(HOLD, lock) as process:
        time.sleep(1.3 * heartbeat.STALE_S)
        assert locks.holder(lock).endswith(f", process {process.pid}")
        with pytest.raises(Busy):
            take(lock)
        process.kill()
        process.wait()
        with pytest.raises(Busy):  # it may only be slow
            take(lock)
        time.sleep(1.3 * heartbeat.STALE_S)
        assert locks.holder(lock) is None and take(lock)["process"] == os.getpid()


def test_a_claim_that_looks_old_but_changes_is_not_taken_over(lock, elsewhere, monkeypatch):
    """The holder's file server dates its files an hour ago."""
    monkeypatch.setattr(heartbeat, "file_system_time", lambda folder: time.time() + 3600)
    with holding(HOLD, lock), pytest.raises(Busy):
        take(lock)


def test_of_many_that_wait_for_a_stale_claim_one_gets_it_at_a_time(lock, elsewhere):
    with holding(HOLD, lock) as process:
        process.kill()
        process.wait()
    time.sleep(1.3 * heartbeat.STALE_S)
    inside, most, done = [], [], []

    def work():
        with locks.hold(lock, "it", patience_s=30):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()
        done.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 8 and max(most) == 1 and os.listdir(lock.parent) == ["lock"]


def test_a_suspended_process_whose_lock_was_taken_over_ends_without_saving(lock, elsewhere):
    with holding(HOLD, lock) as process:
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.3 * heartbeat.STALE_S)
        with locks.hold(lock, "it"):
            process.send_signal(signal.SIGCONT)
            assert process.wait(30) == 75
            message = process.stderr.read().decode()
            assert message.startswith("error: fold: taken over by ") and message.count("\n") == 1
        assert locks.holder(lock) is None


def test_a_process_that_was_killed_while_it_decided_delays_the_others_only(lock, monkeypatch):
    take(lock)
    left = lock.with_name("lock.deciding")
    left.touch()
    os.utime(left, (1, 1))
    assert take(lock)["process"] == os.getpid() and not left.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', '{"process": "x"}', "\0"])
def test_a_damaged_claim_is_somebody_s_until_it_is_old(lock, text):
    take(lock)
    heartbeat.path_of(lock).write_text(text)
    with pytest.raises(Busy, match="in use by an unnamed host"):
        take(lock)
    os.utime(heartbeat.path_of(lock), (1, 1))
    assert take(lock)["process"] == os.getpid()


def test_where_flock_works_a_killed_holder_of_this_machine_is_known_at_once(tmp_path):
    """Also if its process id is another's now, or another container's."""
    lock = tmp_path / "lock"
    with locks.hold(lock, "it"):
        claim = heartbeat.path_of(lock).read_text()
    for changes in ({"process": os.getppid()}, {"processes": "another container"}):
        heartbeat.path_of(lock).write_text(json.dumps(json.loads(claim) | changes))
        assert locks.holder(lock) is None
        with locks.hold(lock, "it", patience_s=0.1):
            pass


def test_a_claim_holds_what_people_need():
    fields = [field.name for field in dataclasses.fields(heartbeat.Claim)]
    assert {"host", "process", "time"} <= set(fields)
