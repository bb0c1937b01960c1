"""The array files of a folder, each memory-mapped on first use, with a limit on open maps."""

import contextlib
import functools
import mmap
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brats_jax.data.store.layout import FileEntry
from brats_jax.errors import BratsError
from brats_jax.runtime.threads import parallel_map

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

MAX_MAPS = 4096
# NumPy parses the header of a file as Python source. In CPython 3.11 all threads share the count of
# its depth, and two at once may end in "SystemError: AST constructor recursion depth mismatch"
# (https://github.com/python/cpython/issues/106905).
_HEADERS = threading.Lock()


class Mapped(NamedTuple):
    """A file's array and its memory map.

    Attributes:
      array: [n]. Rows of 8 bytes, such as a pixel's four modalities in 16 bits, are one uint64
        each, which is copied four times as fast.
      map: of the file.
    """

    array: np.ndarray
    map: mmap.mmap

    def prefetch(self, begin: int, end: int) -> None:
        """Asks the system to read array[begin:end] at once, not page by page at each access."""
        if begin < end and hasattr(self.map, "madvise"):
            start = len(self.map) - self.array.nbytes
            first = (start + begin * self.array.itemsize) // mmap.PAGESIZE * mmap.PAGESIZE
            last = start + end * self.array.itemsize
            with contextlib.suppress(OSError):  # not supported by every file system
                self.map.madvise(mmap.MADV_WILLNEED, first, last - first)


class FileMaps:
    """The .npy files below a folder by name, each mapped on first use.

    A map keeps a file open, and 1,251 patients have more files than most systems allow: the least
    recently used map is dropped. Arrays that are in use keep their own map. Pickles without maps.

    Args:
      folder: the folder.
      remedy: the end of the message about an unreadable file.
      most: limit on maps; None for `maps_allowed()`.
      entries: size and checksum by name, with which a file is compared when it is first mapped.
      records: by the name of a file, a small one that is compared together with it.
    """

    def __init__(
        self,
        folder: Path,
        remedy: str,
        most: int | None = None,
        entries: Mapping[str, FileEntry] | None = None,
        records: Mapping[str, str] | None = None,
    ) -> None:
        self._arguments = (folder, remedy, most, entries, records)
        self._unchecked = dict(entries or {})
        self._mapped = functools.lru_cache(maps_allowed() if most is None else most)(self._map)

    def __len__(self) -> int:
        """Number of maps."""
        return self._mapped.cache_info().currsize

    def __getitem__(self, name: str) -> Mapped:
        return self._mapped(name)

    def check(self, names: Iterable[str]) -> None:
        """Compares files with their checksums in threads, those that were not compared before.

        Raises:
          BratsError: a file is not as it was written.
        """
        parallel_map(self._check, [name for name in names if name in self._unchecked])

    def _check(self, name: str) -> None:
        folder, remedy, _, _, records = self._arguments
        for one in ((records or {}).get(name, ""), name):
            entry = self._unchecked.get(one)
            if entry is not None:
                check_file(folder / one, entry, remedy)
                self._unchecked.pop(one, None)

    def _map(self, name: str) -> Mapped:
        folder, remedy, *_ = self._arguments
        self._check(name)
        return _map(folder, remedy, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return FileMaps, self._arguments


def check_file(path: Path, entry: FileEntry, remedy: str) -> None:
    """Raises BratsError if a file is not as it was written; `remedy` ends its message."""
    try:
        same = entry.is_of_file(path)
    except OSError as error:
        raise BratsError(f"{path} cannot be read ({error.strerror or error}): {remedy}") from None
    if not same:
        raise BratsError(
            f"{path} has changed since it was written (its checksum differs): {remedy}"
        )


def _map(folder: Path, remedy: str, name: str) -> Mapped:
    path = folder / name
    try:
        with _HEADERS:
            loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BratsError(f"{path} cannot be read ({error}): {remedy}") from None
    if not loaded.dtype.isnative:
        raise BratsError(
            f"{path} was written by a machine of the other byte order: prepare it here"
        )
    # Not np.memmap: views of a subclass are slower.
    array = np.asarray(loaded)
    if array.ndim == 2:
        array = array.view(np.uint64)[:, 0]
    return Mapped(array, loaded.base)


def maps_allowed() -> int:
    """Half of the files that this process may open, at most `MAX_MAPS`.

    First raises the process's own limit as far as permitted: 1,251 patients are 2,502 files, and
    many systems allow 1,024 by default.
    """
    if resource is None:
        return 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 2 * MAX_MAPS:
        wanted = 2 * MAX_MAPS if hard == resource.RLIM_INFINITY else min(2 * MAX_MAPS, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_MAPS if soft == resource.RLIM_INFINITY else max(16, min(soft // 2, MAX_MAPS))
