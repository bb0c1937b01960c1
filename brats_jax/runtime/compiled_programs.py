"""Removes damaged programs from the folder in which JAX keeps compiled ones.

JAX writes a program straight to its final name, and never replaces a file that is there. A process
that is killed meanwhile, or a full disk, leaves a truncated file: without its removal, every later
process would compile that program again.
"""

import contextlib
import importlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path

_SUFFIX = "-cache"  # of JAX's files
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
        for path in sorted(folder.glob(f"*{_SUFFIX}")):
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
    decompress = _zstd() if data.startswith(b"\x28\xb5\x2f\xfd") else zlib.decompress
    if decompress is None:
        return True
    try:
        decompress(data)
    except Exception:  # each library has an error of its own
        return False
    return True


def _zstd() -> Callable[[bytes], bytes] | None:
    """The decompression of zstd, from the modules in which JAX looks for it."""
    for name, attribute in (("compression.zstd", "decompress"), ("zstandard", "decompress")):
        with contextlib.suppress(ImportError):
            found: Callable[[bytes], bytes] = getattr(importlib.import_module(name), attribute)
            return found
    return None
