"""Atomic writing of small files, and checks of output folders."""

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from brats_jax.errors import BratsError
from brats_jax.runtime import temporaries
from brats_jax.runtime.json_text import parse_json
from brats_jax.runtime.temporaries import file_system_time as file_system_time

MOST_JSON_BYTES = 256 * 2**20  # the manifest of the largest stores has a few megabytes
_UMASK = threading.Lock()


@contextmanager
def atomic_open(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path` and renames it to `path` on success.

    Readers see either the old file or the new one; an error or a kill leaves the old one. An
    OSError of writing names `path`.

    Raises:
      BratsError: `path` is a link.
    """
    with _temporary(path, mode) as (file, temporary):
        yield file
        _finish(file, temporary)
        os.replace(temporary, path)


@contextmanager
def atomic_group(last: Path) -> Iterator[Callable[[Path], IO[bytes]]]:
    """Replaces several files together, on success of the body.

    Yields a function that opens a file for writing; `last`, which vouches for the others, must be
    among them. An error leaves all old files. A kill leaves all old files, all new ones, or no
    file `last`: never an old `last` beside new files.

    Args:
      last: the file that is removed first and replaced last.
    """
    with contextlib.ExitStack() as opened:
        files: dict[Path, tuple[IO[bytes], Path]] = {}

        def open_file(path: Path) -> IO[bytes]:
            files[path] = opened.enter_context(_temporary(path, "wb"))
            return files[path][0]

        yield open_file
        for file, temporary in files.values():
            _finish(file, temporary)
        last.unlink(missing_ok=True)
        sync_folder(last.parent)
        for path in sorted(files, key=lambda path: path == last):
            if path == last:
                sync_folder(last.parent)
            os.replace(files[path][1], path)


@contextmanager
def _temporary(path: Path, mode: str) -> Iterator[tuple[IO[Any], Path]]:
    """A temporary file beside `path`, open for writing; removed if it was not renamed."""
    refuse_link(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        if not path.parent.is_symlink():
            raise
        raise BratsError(
            f"{path.parent} is a link to a folder that is not there: kept; make the folder, or "
            "move the link away"
        ) from None
    try:
        descriptor, temporary = temporaries.create(path)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        # A name that is no valid text, as a file may have, is written with replacements.
        encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
        with os.fdopen(descriptor, mode, encoding=encoding, errors=errors) as file:
            yield file, temporary
    except BaseException as error:
        # A full disk: write() names no file.
        if isinstance(error, OSError) and str(error.filename) in ("None", str(temporary)):
            error.filename = str(path)
        temporary.unlink(missing_ok=True)
        raise


def refuse_link(path: Path, remedy: str = "move it away, and give the same command again") -> None:
    """Refuses to replace or remove a link to a file: this program writes none.

    Raises:
      BratsError: names the link.
    """
    if path.is_symlink():
        raise BratsError(f"{path} is a link, which this program did not write: kept; {remedy}")


def _finish(file: IO[Any], temporary: Path) -> None:
    """Brings a temporary file to the disk, with the rights of a new file."""
    file.flush()
    os.fsync(file.fileno())
    # Temporary files are private; a published file follows the user's umask.
    with _UMASK:  # the umask is per process: two threads could each restore the other's 0
        umask = os.umask(0)
        os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk, in this order; not every file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(path: Path, flag: str) -> None:
    """Creates the output folder that was given with `flag`, unless it exists.

    Raises:
      BratsError: it is a file, or cannot be created.
    """
    check_folder(path, flag)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BratsError(
            f"{path} cannot be written ({error.strerror or error}): choose another {flag}"
        ) from None


def check_folder(path: Path, flag: str) -> None:
    """Raises BratsError if `path` is a file; creates nothing."""
    if os.path.lexists(path) and not path.is_dir():
        raise BratsError(f"{path} is a file: choose another {flag}")


def remove_stale(directory: Path, names: re.Pattern[str], older_than_s: float = 3600.0) -> None:
    """Removes temporary files that a killed process of version 0.1.0 left in `directory`.

    Args:
      directory: the folder.
      names: pattern of the final file names.
      older_than_s: younger files stay, because another process may be writing them.
    """
    now = None
    for path in directory.glob(".*"):
        name, dot, suffix = path.name[1:].rpartition(".")
        if not (dot and len(suffix) == 8 and names.fullmatch(name)):
            continue
        try:
            now = file_system_time(directory) if now is None else now
            if now - path.stat().st_mtime > older_than_s:
                path.unlink()
        except OSError:  # removed meanwhile, or no permission
            continue


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` atomically."""
    with atomic_open(path) as file:
        file.write(text)


def write_json(path: Path, document: Any) -> None:
    """Writes `document` to `path` as indented JSON, atomically; NaN becomes null."""
    write_text(path, json_text(document))


def json_text(document: Any) -> str:
    """`document` as indented JSON; NaN becomes null."""
    return json.dumps(_without_nan(document), indent=2, allow_nan=False) + "\n"


def _without_nan(value: Any) -> Any:
    """Replaces values that JSON lacks: NaN and infinities by null, tuples by lists."""
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Reads a JSON object; see `runtime.json_text.parse_json` for what is refused.

    Args:
      path: the file.
      remedy: what to do about an unreadable one; the end of the message.

    Raises:
      BratsError: the file cannot be read or does not hold a JSON object.
    """
    try:
        document = parse_json(read_regular(path, MOST_JSON_BYTES).decode("utf-8"))
    except OSError as error:
        raise BratsError(f"{path} cannot be read ({error.strerror or error}): {remedy}") from None
    except ValueError as error:
        raise BratsError(f"{path} is not valid JSON ({error}): {remedy}") from None
    if not isinstance(document, dict):
        raise BratsError(f"{path} is not a JSON object: {remedy}")
    return document


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_regular(path: Path, most_bytes: int | None = None) -> bytes:
    """The bytes of a file; a pipe or a device is not opened for reading, which might never end.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no file, or of more than `most_bytes`.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is a device or a pipe, not a file")
        if most_bytes is None:
            return file.read()
        if found.st_size > most_bytes:
            raise ValueError(f"{found.st_size:,} bytes are more than any such file has")
        return file.read(most_bytes + 1)


def check_regular(path: Path) -> None:
    """Refuses what is no regular file, before a library opens it.

    Raises:
      OSError: there is nothing at the end of the path, or no permission.
      ValueError: a folder, a pipe or a device.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise ValueError("it is a folder, not a file")
    if not stat.S_ISREG(mode):
        raise ValueError("it is a device or a pipe, not a file")


def unreadable(
    path: str | os.PathLike[str], error: Exception, remedy: str = "fetch it again"
) -> BratsError:
    """The one line about a file that cannot be read: the reason, and what to do.

    Args:
      path: the file.
      error: of its reader.
      remedy: against damage; links and permissions have their own.
    """
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ELOOP:
        reason, remedy = "its links lead in a circle", "repair the link"
    elif os.path.islink(path) and not os.path.exists(path):
        reason = f"it is a link to {_target(path)}, which is not there"
        remedy = "repair the link, or fetch the file"
    elif code in (errno.EACCES, errno.EPERM):
        reason, remedy = "no permission to read it", "give read permission"
    elif code == errno.ENAMETOOLONG:
        reason, remedy = "the path is too long", "move it to a shorter one"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    return BratsError(f"{os.fspath(path)} cannot be read ({reason[:300]}): {remedy}")


def _target(link: str | os.PathLike[str]) -> str:
    try:
        return os.fspath(os.readlink(link))
    except OSError:  # removed meanwhile
        return "nothing"


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe without a writer would block
