"""Removes damaged programs from the folder in which JAX keeps compiled ones.

JAX writes a program straight to its final name, and never replaces a file that is there. A process
that is killed meanwhile, or a full disk, leaves a truncated file: without its removal, every later
process would compile that program again.
"""

import contextlib
import importlib
import os
import re
import zlib
from pathlib import Path

# JAX's names: the program and a SHA-256. Whatever else is in the folder is not ours to remove.
_PROGRAM = re.compile(r".+-[0-9a-f]{64}-cache")
_ZSTD = b"\x28\xb5\x2f\xfd"
_CHECKED = ".brats_jax_checked"  # its time is that of the newest file that was found whole


def remove_damaged(folder: Path) -> list[Path]:
    """Removes the files that cannot be decompressed, of those written since the last call.

    A file that another process is writing may be removed as well; that program is then compiled
    once more. Files that cannot be read or removed are left to JAX, which works without them.

    Args:
      folder: of the compiled programs; it may be missing.

    Returns:
      the removed files.
    """
    removed, stamp = [], folder / _CHECKED
    with contextlib.suppress(OSError):
        checked = stamp.stat().st_mtime_ns if stamp.exists() else -1
        newest = checked
        for path in sorted(folder.glob("*-cache")):
            if not _PROGRAM.fullmatch(path.name):
                continue
            with contextlib.suppress(OSError):
                written = path.stat().st_mtime_ns
                if written <= checked:
                    continue
                if _is_whole(path.read_bytes()):
                    newest = max(newest, written)
                else:
                    path.unlink()
                    removed.append(path)
        if newest > checked:
            stamp.touch()
            os.utime(stamp, ns=(newest, newest))
    return removed


def _is_whole(data: bytes) -> bool:
    """Whether compressed data has its end; True of a compression that is not installed."""
    if not data.startswith(_ZSTD):
        try:
            zlib.decompress(data)
        except zlib.error:
            return False
        return True
    for name in ("compression.zstd", "zstandard"):  # where JAX looks for it
        with contextlib.suppress(ImportError):
            zstd = importlib.import_module(name)
            try:
                zstd.decompress(data)
            except zstd.ZstdError:
                return False
            return True
    return True
