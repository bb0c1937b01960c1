"""One process at a time: a lock that the kernel takes back when its holder dies."""

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from brats_jax.errors import Busy
from brats_jax.runtime.console import say

# What file systems without flock answer.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


@contextlib.contextmanager
def hold(path: Path, what: str, patience_s: float = 1.0) -> Iterator[None]:
    """Holds the lock file `path` while it is entered.

    The lock belongs to the open file: when this process ends, however it ends, the kernel
    gives it back. The file stays, and names its holder while there is one. Where the file
    system knows no locks, a warning is printed and the work goes on.

    Args:
      path: the lock file; it and its folder are created.
      what: what is locked, for the message.
      patience_s: how long to try. Never 0: whoever only asks (`holder`) is in the way too,
        for a moment.

    Raises:
      Busy: another process holds it; names host and process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + patience_s
        while not _take(descriptor, fcntl.LOCK_EX, path, warn=True):
            if time.monotonic() > deadline:
                raise Busy(
                    f"{what}: another process is at it ({_name(descriptor)}); let it end, "
                    "or stop it first"
                )
            time.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{socket.gethostname()}, process {os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(path: Path) -> str | None:
    """'HOST, process N' of whoever holds the lock file now; None if nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if _take(descriptor, fcntl.LOCK_SH, path) else _name(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int, kind: int, path: Path, *, warn: bool = False) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        if warn:
            say(
                f"warning: {path} cannot be locked here ({error.strerror}); see to it that no "
                "second process works on this run"
            )
    return True


def _name(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unnamed"
