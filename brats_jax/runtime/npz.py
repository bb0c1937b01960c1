"""Reading .npz files, which may be damaged."""

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
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
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def open_npz(path: Path, remedy: str) -> Iterator[Mapping[str, Any]]:
    """Opens a .npz file, whose arrays are read where they are used; never unpickles.

    Args:
      path: the file.
      remedy: what to do about an unreadable one; the end of the message.

    Raises:
      BratsError: the file is missing or damaged, or the body of `with` misses an array or cannot
        use its values.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            yield file
    except _UNREADABLE as error:
        raise BratsError(f"{path}: cannot be read ({error}); {remedy}") from None
