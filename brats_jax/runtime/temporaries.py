"""Temporary files beside the files that they will replace: locked while they are written.

A process that is killed leaves its temporary files. The next process that writes into the folder
removes them: the kernel has released their locks. Those of another host are removed when they are
old, because not every cluster shares locks.
"""

import contextlib
import fcntl
import os
import re
import socket
import tempfile
import threading
import time
import zlib
from pathlib import Path

# The name of the host is in the name of the file, as eight digits.
_NAME = re.compile(r"\..+\.brats_jax-(?P<host>[0-9a-f]{8})-[0-9a-z_]{8}")
_LONGEST = 180  # bytes of the final name that are kept, of the 255 that a name may have
# Seconds without a change after which no process writes a file of another host any more.
OLD_S = 900.0

_searched: set[Path] = set()
_LOCK = threading.Lock()


def create(path: Path) -> tuple[int, Path]:
    """Creates a temporary file beside `path`; first removes those that killed processes left.

    Returns:
      (open file descriptor, which holds the lock; the file).

    Raises:
      OSError: it cannot be created.
    """
    _search_once(path.parent)
    start = os.fsdecode(os.fsencode(path.name)[:_LONGEST])
    while True:
        prefix = f".{start}.brats_jax-{_host()}-"
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=path.parent)
        # Another process may have found and removed the file before it was locked.
        if _lock(descriptor) is not False and os.path.lexists(name):
            return descriptor, Path(name)
        os.close(descriptor)


def remove_left(directory: Path) -> None:
    """Removes the temporary files in a folder that no process writes any more."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            found = _NAME.fullmatch(entry.name)
            if found is not None:
                with contextlib.suppress(OSError):  # removed meanwhile, or of another user
                    _remove_if_left(entry.path, found["host"] == _host())


def _search_once(directory: Path) -> None:
    """Searches a folder when this process writes into it for the first time."""
    with _LOCK:
        if directory in _searched:
            return
        _searched.add(directory)
    remove_left(directory)


def _remove_if_left(path: str, of_this_host: bool) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        locked = _lock(descriptor)
        if locked is False:
            return
        if (locked and of_this_host) or time.time() - os.fstat(descriptor).st_mtime > OLD_S:
            os.unlink(path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Whether the lock was free; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"
