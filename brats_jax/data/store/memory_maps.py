"""Array files of a folder, memory-mapped as they are needed, not too many at a time."""

import collections
import contextlib
import mmap
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brats_jax.errors import BratsError

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


_MOST = 4096  # maps


class Mapped(NamedTuple):
    """A file's array, and the map that it lies in.

    Attributes:
      array: [n]; a row of two axes that has 8 bytes, such as a pixel's four modalities, is one
        uint64, which is copied as fast as one of them.
      map: of the file.
    """

    array: np.ndarray
    map: mmap.mmap

    def soon(self, begin: int, end: int) -> None:
        """Tells the system that array[begin:end] is needed.

        What is not in memory is then read at once, not a few pages at each touch.
        """
        if begin < end and hasattr(self.map, "madvise"):
            start = len(self.map) - self.array.nbytes
            first = (start + begin * self.array.itemsize) // mmap.PAGESIZE * mmap.PAGESIZE
            last = start + end * self.array.itemsize
            with contextlib.suppress(OSError):  # some file systems take no advice
                self.map.madvise(mmap.MADV_WILLNEED, first, last - first)


class FileMaps:
    """The .npy files below a folder by name, each mapped when it is first asked for.

    A map keeps a file open, and 1,251 patients are more files than most systems allow: the least
    recently used one is let go. Arrays that are in use keep theirs alive. Pickles without maps.

    Args:
      folder: where they lie.
      remedy: ends the message about one that cannot be read.
    """

    def __init__(self, folder: Path, remedy: str) -> None:
        self._folder, self._remedy = folder, remedy
        self.forget()

    def forget(self) -> None:
        """Lets go of every map."""
        self._lock = threading.Lock()
        self._maps: collections.OrderedDict[str, Mapped] = collections.OrderedDict()
        self.most = _open_files_allowed()

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, name: str) -> Mapped:
        with self._lock:
            mapped = self._maps.get(name)
            if mapped is not None:
                self._maps.move_to_end(name)
                return mapped
            mapped = self._maps[name] = self._map(self._folder / name)
            while len(self._maps) > self.most:
                self._maps.popitem(last=False)
            return mapped

    def _map(self, path: Path) -> Mapped:
        try:
            loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BratsError(f"{path} cannot be read ({error}): {self._remedy}") from None
        if not loaded.dtype.isnative:
            raise BratsError(
                f"{path} was written by a machine of the other byte order: prepare it here"
            )
        # Plain arrays: every view of an np.memmap pays for its subclass.
        array = np.asarray(loaded)
        if array.ndim == 2:
            array = array.view(np.uint64)[:, 0]
        return Mapped(array, loaded.base)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self._folder, "remedy": self._remedy}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _open_files_allowed() -> int:
    """Half of the files this process may open: the other half is left to everyone else.

    Where that is less than the usual data sets need (1,251 patients are 2,502 files; many systems
    allow 1,024, and more to who asks), it asks for more.
    """
    if resource is None:
        return 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < 2 * _MOST:
        wanted = 2 * _MOST if hard == resource.RLIM_INFINITY else min(2 * _MOST, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(16, min(soft // 2, _MOST))
