"""Reading .npz files, which may be damaged."""

import math
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from brats_jax.errors import BratsError

# Exceptions of reading a damaged .npz: zipfile, zlib and NumPy each raise their own (one flipped
# bit may ask for an unknown compression method, or a password).
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    EOFError,
    RuntimeError,
    MemoryError,
    ArithmeticError,
    SyntaxError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
# The arrays of a file may have this many bytes, and so many for each byte of the file: deflate
# turns megabytes of zeros into kilobytes.
_ALWAYS_ALLOWED, _FOR_EACH_BYTE = 256 * 2**20, 64
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@contextmanager
def open_npz(path: Path, remedy: str) -> Iterator[Mapping[str, Any]]:
    """Opens a .npz file, whose arrays are read where they are used; never unpickles.

    The sizes that the file declares are compared with each other and with the size of the file
    before memory is allocated.

    Args:
      path: the file.
      remedy: what to do about an unreadable one; the end of the message.

    Raises:
      BratsError: the file is missing or damaged, or the body of `with` misses an array or cannot
        use its values.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no file")
        with zipfile.ZipFile(path) as archive:
            yield _Arrays(archive, found.st_size)
    except _UNREADABLE as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise BratsError(f"{path}: cannot be read ({text[:200]}); {remedy}") from None


class _Arrays(Mapping[str, np.ndarray]):
    """The arrays of an open .npz by name."""

    def __init__(self, archive: zipfile.ZipFile, file_bytes: int) -> None:
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in self._members:
                raise ValueError(f"it holds {name} twice")
            self._members[name] = member
        declared = sum(member.file_size for member in self._members.values())
        if declared > _ALWAYS_ALLOWED + _FOR_EACH_BYTE * file_bytes:
            raise ValueError(
                f"it declares {declared:,} bytes of arrays in a file of {file_bytes:,} bytes"
            )

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._members:
            raise KeyError(f"{name} is not in the file")
        member = self._members[name]
        with self._archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            if version not in _HEADERS:
                raise ValueError(f"{name} has an unknown format {version}")
            shape, fortran, dtype = _HEADERS[version](file)
            if dtype.hasobject:
                raise ValueError(f"{name} holds Python objects, which are never unpickled")
            size = math.prod(shape) * dtype.itemsize
            if any(n < 0 for n in shape) or file.tell() + size != member.file_size:
                raise ValueError(f"{name} declares the shape {shape}, which is not its size")
            data = file.read(size + 1)  # one more, so that the checksum is compared
        if len(data) != size:
            raise ValueError(f"{name} has {len(data)} bytes, not {size}")
        array = np.frombuffer(bytearray(data), dtype)
        return array.reshape(shape, order="F" if fortran else "C")

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def check_array(name: str, array: np.ndarray, kinds: str, shape: Sequence[int | None]) -> None:
    """Refuses an array of another kind or shape.

    Args:
      name: for the message.
      array: the array.
      kinds: the letters of `numpy.dtype.kind` that are valid.
      shape: its shape; None for any length.

    Raises:
      ValueError: says what the array is and should be.
    """
    fits = array.ndim == len(shape) and all(
        wanted in (None, n) for wanted, n in zip(shape, array.shape, strict=True)
    )
    if array.dtype.kind not in kinds or not fits:
        wanted = ", ".join("n" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} is {array.dtype}{list(array.shape)}, not of shape [{wanted}]")
