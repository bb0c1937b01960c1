"""File locks that the kernel releases when their holder ends.

By hand, because filelock (4.3) cannot replace it: it has no shared lock, so that asking for the
holder would take the lock and write to the folder, and where a file system lacks flock it falls
back to a lock that outlives its holder.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from brats_jax.errors import Busy
from brats_jax.runtime import heartbeat
from brats_jax.runtime.console import print_line

# errno of a file system without flock.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


@contextlib.contextmanager
def hold(path: Path, name: str, patience_s: float = 1.0) -> Iterator[None]:
    """Holds the lock file `path` within the body.

    The lock belongs to the open file: when this process ends for any reason, the kernel releases
    it. The file stays, and contains its holder's host and process while there is one. For other
    machines, which flock may not reach, a claim with signs of life stands beside it (`heartbeat`).

    Args:
      path: the lock file; it and its folder are created.
      name: name of the locked thing, for the message.
      patience_s: how long to try. Never 0, because `holder` takes the lock for a moment too.

    Raises:
      Busy: another process holds it; names host and process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience_s
    descriptor = _lock_file(path, name, deadline)
    try:
        with heartbeat.claimed(path, name, deadline):
            _write(descriptor, path)
            yield
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(path: Path) -> str | None:
    """'HOST, process N' of the lock file's holder; None if it has none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if not _try_lock(descriptor, fcntl.LOCK_SH, path):
            return _read(descriptor)
        return heartbeat.living_holder(path)
    finally:
        os.close(descriptor)


def _lock_file(path: Path, name: str, deadline: float) -> int:
    """Opens and locks the file; a process that removed it meanwhile has locked another one."""
    warn = True
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            while not _try_lock(descriptor, fcntl.LOCK_EX, path, warn=warn):
                if time.monotonic() > deadline:
                    raise Busy(f"{name}: in use by {_read(descriptor)}; wait for it or stop it")
                time.sleep(0.05)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        warn = False


def _try_lock(descriptor: int, kind: int, path: Path, *, warn: bool = False) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        if warn:
            print_line(
                f"warning: {path} cannot be locked here ({error.strerror}); the file "
                f"{heartbeat.path_of(path).name} keeps other processes out instead"
            )
    return True


def _write(descriptor: int, path: Path) -> None:
    os.ftruncate(descriptor, 0)
    try:
        os.pwrite(descriptor, f"{socket.gethostname()}, process {os.getpid()}\n".encode(), 0)
    except OSError as error:  # a full disk
        error.filename = str(path)
        raise


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "an unnamed process"
