import errno
import fcntl
import os
import signal
import socket
import threading

import pytest
from processes import holding

from brats_jax.errors import BratsError, Busy
from brats_jax.runtime import locks

HOLD = """
import sys, time
from pathlib import Path
from brats_jax.runtime import locks
with locks.hold(Path(sys.argv[1]), "fold"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_reads_who_holds_the_lock(tmp_path):
    path = tmp_path / "fold_0" / "lock"
    with holding(HOLD, path) as process:
        name = f"{socket.gethostname()}, process {process.pid}"
        assert locks.holder(path) == name
        with pytest.raises(Busy) as caught, locks.hold(path, "RUN/fold_0", patience_s=0.1):
            pass
        assert f"RUN/fold_0: in use by {name}; wait for it or stop it" in str(caught.value)
        assert isinstance(caught.value, BratsError)
        # A killed process holds no lock.
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert locks.holder(path) is None
        with locks.hold(path, "RUN/fold_0"):
            assert locks.holder(path) == f"{socket.gethostname()}, process {os.getpid()}"
    assert locks.holder(path) is None and path.exists()


def test_a_missing_lock_file_has_no_holder(tmp_path):
    assert locks.holder(tmp_path / "none" / "lock") is None
    assert not (tmp_path / "none").exists()


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(KeyError), locks.hold(tmp_path / "lock", "it"):
        raise KeyError
    assert locks.holder(tmp_path / "lock") is None


def test_asking_for_the_holder_does_not_keep_another_process_out(tmp_path):
    """`holder` takes the lock for a moment, and `hold` waits for its end."""
    path = tmp_path / "lock"
    path.touch()
    looking = os.open(path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    done = threading.Timer(0.2, os.close, [looking])
    done.start()
    with locks.hold(path, "it", patience_s=30):
        assert done.finished.is_set()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, capsys, number):
    def no_lock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_lock)
    with locks.hold(tmp_path / "lock", "it"):
        pass
    printed = capsys.readouterr().out
    assert printed.startswith("warning: ") and printed.count("\n") == 1
    assert "cannot be locked here" in printed
    assert locks.holder(tmp_path / "lock") is None
