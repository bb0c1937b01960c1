"""Errors as one line: what is wrong, in which file, and what to do."""

import errno
import os
import resource
import sys
from pathlib import Path
from typing import NoReturn

from brats_jax.errors import BratsError
from brats_jax.runtime.text import one_line

# Shows the traceback of an unexpected error.
TRACEBACK = "BRATS_JAX_TRACEBACK"


def print_error(message: str) -> None:
    """Prints the one line that describes an error."""
    print(f"error: {one_line(message)}", file=sys.stderr)


def exit_with_error(message: str) -> NoReturn:
    """Prints the line of an error and exits with status 1."""
    print_error(message)
    sys.exit(1)


def describe(error: BaseException, where: str | os.PathLike[str] | None = None) -> str:
    """An exception in one line.

    Args:
      error: the exception.
      where: the file or folder that an OSError without a file name is about.
    """
    if isinstance(error, BratsError):
        return str(error)
    if isinstance(error, OSError):
        return f"{_file_of(error, where)}: {error.strerror or error}{remedy(error)}"
    if isinstance(error, MemoryError):
        return f"{_at(where)}not enough memory: close other programs, or use a larger machine"
    if is_out_of_memory(error):
        return f"{_at(where)}{_first_line(error)}: give a smaller batch size"
    return (
        f"{_at(where)}unexpected {type(error).__name__}: {_first_line(error)}; "
        f"{TRACEBACK}=1 before the command shows where"
    )


def is_expected(error: BaseException) -> bool:
    """Whether an exception comes from the input or the environment, not from the program."""
    return isinstance(error, BratsError | OSError | MemoryError)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory of the host or of a device is full."""
    # The latter is JAX's word for a device.
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def remedy(error: OSError) -> str:
    """What to do about an OSError, with its punctuation; empty where its text says enough."""
    code = error.errno
    if code in (errno.ENOSPC, errno.EDQUOT):
        return "; free some space, and give the same command again"
    if code == errno.EFBIG:
        return f"; {_file_size_limit()}"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "; give write permission, or choose another folder"
    if code == errno.ENAMETOOLONG:
        return "; choose a shorter path"
    if code in (errno.EMFILE, errno.ENFILE):
        return "; raise the limit on open files (ulimit -n)"
    return ""


def is_folder(path: str | os.PathLike[str] | None) -> bool:
    """Whether there is a folder at `path`; False for a path that no file system takes."""
    return path is not None and os.path.isdir(path)


def _file_of(error: OSError, where: str | os.PathLike[str] | None) -> str:
    name = error.filename
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    return str(name if name not in (None, "") else where or "a file")


def _file_size_limit() -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return "the file system takes no file of this size: choose another folder"
    return (
        f"the limit on the size of a file is {limit:,} bytes: raise it (ulimit -f), or choose "
        "fewer outputs"
    )


def _at(where: str | os.PathLike[str] | None) -> str:
    return f"{Path(where)}: " if where else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0][:200]
