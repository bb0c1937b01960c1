"""Whole files or none: every small file the program writes goes through here."""

import json
import os
import re
import struct
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from brats_jax.errors import BratsError

_UMASK = threading.Lock()

# What reading a .npz raises that is damaged, or is none: zipfile, zlib and NumPy each have words
# of their own for it (a bit that fell over may ask for an unknown method, or a password).
UNREADABLE_NPZ = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    EOFError,
    RuntimeError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def atomic_open(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path` that takes its name only when all went well.

    A reader sees the old file or the new one; an error or a kill leaves the old.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; what we publish follows the user's umask.
        with _UMASK:  # it belongs to the process: two threads could keep each other's 0
            umask = os.umask(0)
            os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def make_folder(path: Path, flag: str) -> None:
    """Makes the folder that a command was told to write to with `flag`, unless it is there.

    Raises:
      BratsError: it is a file, or cannot be made.
    """
    check_folder(path, flag)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BratsError(
            f"{path} cannot be written ({error.strerror or error}): choose another {flag}"
        ) from None


def check_folder(path: Path, flag: str) -> None:
    """Refuses what is there and no folder (BratsError); makes nothing."""
    if path.exists() and not path.is_dir():
        raise BratsError(f"{path} is a file: choose another {flag}")


def remove_stale(directory: Path, names: re.Pattern[str], older_than_s: float = 3600.0) -> None:
    """Removes what a killed `atomic_open` left in a folder of files with certain names.

    A file that was written to within the hour may be another process's, and stays.
    """
    for path in directory.glob(".*"):
        name, dot, suffix = path.name[1:].rpartition(".")
        if not (dot and len(suffix) == 8 and names.fullmatch(name)):
            continue
        try:
            if time.time() - path.stat().st_mtime > older_than_s:
                path.unlink()
        except OSError:  # gone meanwhile, or not ours to remove
            continue


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path`, whole or not at all."""
    with atomic_open(path) as file:
        file.write(text)


def write_json(path: Path, document: Any) -> None:
    """Writes `document` as indented JSON, whole or not at all; NaN becomes null."""
    write_text(path, json_text(document))


def json_text(document: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(_plain(document), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Replaces what JSON has no word for: NaN and infinities become null, tuples lists."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
