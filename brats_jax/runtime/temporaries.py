"""Temporary files beside the files that they will replace: locked while they are written.

A process that is killed leaves its temporary files. The next process that writes into the folder
removes them: the kernel has released their locks. Those of another machine, and those on a file
system without locks, are removed when they are old.
"""

import contextlib
import fcntl
import functools
import os
import re
import tempfile
import threading
import time
import zlib
from pathlib import Path

from brats_jax.runtime import machine

# Eight digits stand for the machine.
_NAME = re.compile(r"\..+\.brats_jax-(?P<machine>[0-9a-f]{8})-[0-9a-z_]{8}")
_LONGEST = 180  # bytes of the final name that are kept, of the 255 that a name may have
# Seconds without a change after which no process writes a file any more.
OLD_S = 900.0

MEMORY = Path("/dev/shm")

_cleaned: set[Path] = set()
_LOCK = threading.Lock()


def use_memory_if_no_folder() -> None:
    """Names /dev/shm as the folder for temporary files if no other one can be written.

    A container with a read-only root has it even where nothing is mounted at /tmp. matplotlib,
    for one, does not start without such a folder.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        if os.access(MEMORY, os.W_OK | os.X_OK):
            tempfile.tempdir = os.environ["TMPDIR"] = str(MEMORY)


def create(path: Path) -> tuple[int, Path]:
    """Creates a temporary file beside `path`; first removes those that killed processes left.

    Returns:
      (open file descriptor, which holds the lock; the file).

    Raises:
      OSError: it cannot be created.
    """
    _clean_once(path.parent)
    start = os.fsdecode(os.fsencode(path.name)[:_LONGEST])
    while True:
        prefix = f".{start}.brats_jax-{_machine()}-"
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=path.parent)
        # Another process may have found and removed the file before it was locked.
        if _lock(descriptor) is not False and os.path.lexists(name):
            return descriptor, Path(name)
        os.close(descriptor)


def remove_leftovers(directory: Path) -> None:
    """Removes the temporary files in a folder that no process writes any more."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            found = _NAME.fullmatch(entry.name)
            if found is not None:
                with contextlib.suppress(OSError):  # removed meanwhile, or of another user
                    _remove_if_abandoned(entry.path, found["machine"] == _machine())


def file_system_time(folder: Path) -> float:
    """The time now, in seconds since 1970, by the clock that dates the files in `folder`.

    A file server's clock may differ from this machine's. Where nothing can be written, the time of
    this machine.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def _clean_once(directory: Path) -> None:
    """Removes the leftovers of a folder when this process writes into it for the first time."""
    with _LOCK:
        if directory in _cleaned:
            return
        _cleaned.add(directory)
    remove_leftovers(directory)


def _remove_if_abandoned(path: str, of_this_machine: bool) -> None:
    """Removes a file whose process has ended, by its lock; without locks, if it is old."""
    descriptor, again = (os.open(path, os.O_RDWR | os.O_NOFOLLOW) for _ in range(2))
    try:
        locked = _lock(descriptor)
        if locked is False:
            return
        # On some file systems every process gets every lock.
        lock_excludes = locked and _lock(again) is False
        age = file_system_time(Path(path).parent) - os.fstat(descriptor).st_mtime
        if (of_this_machine and lock_excludes) or age > OLD_S:
            os.unlink(path)
    finally:
        os.close(descriptor)
        os.close(again)


def _lock(descriptor: int) -> bool | None:
    """Whether the lock was free; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@functools.cache
def _machine() -> str:
    """Eight digits for the boot of this kernel."""
    return f"{zlib.crc32(machine.boot_id().encode()):08x}"
