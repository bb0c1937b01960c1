"""Header and voxels of one NIfTI file, in memory that its header declares and no more.

A file of a few kilobytes may declare, or unpack to, terabytes. Therefore the size that the header
declares is compared with the bytes that are there before anything is allocated.
"""

import contextlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from brats_jax.data.scans.grids import lps_grid
from brats_jax.data.scans.options import check_case_bytes
from brats_jax.errors import BratsError
from brats_jax.runtime.files import check_regular, unreadable

_GZIP = b"\x1f\x8b"
_HEADERS = 544  # bytes of the larger of the two headers, NIfTI-2, with its extension flag
_PIECE, _BLOCK = 1 << 16, 1 << 20  # bytes read and unpacked at a time
# Deflate compresses by a factor of 1032 at most.
_MOST_PACKED = 1032
_NO_SCALE = ((None, None), (1.0, 0.0))
# Bytes after the voxels: some programs pad.
_SLACK = 1 << 20


def read_nifti(path: str, max_case_gb: float) -> tuple[Any, np.ndarray]:
    """Reads a NIfTI-1 or NIfTI-2 file, whether compressed or not.

    Args:
      path: the file.
      max_case_gb: the largest size of a case.

    Returns:
      nibabel's header (without extensions) and the voxels, with the scale of the header applied.

    Raises:
      BratsError: the file cannot be read, or is not of the size that its header declares.
    """
    import nibabel  # here, so that reading a store does not load it

    with _one_line(path), _open(path) as file:
        header, end, _ = _header(path, file, max_case_gb)
        file.seek(0)
        raw = np.empty(end, np.uint8)
        at = 0
        for block in _contents(file):
            if at < end:
                part = min(len(block), end - at)
                raw[at : at + part] = np.frombuffer(block, np.uint8, part)
            at += len(block)
            if at > end + _SLACK:
                raise ValueError(f"it unpacks to more than the {end:,} bytes of its header")
        if at < end:
            raise ValueError(f"it holds {at:,} bytes, its header declares {end:,}")
        if header.get_slope_inter() in _NO_SCALE:  # without a copy
            shape, dtype = header.get_data_shape(), header.get_data_dtype()
            return header, np.ndarray(shape, dtype, raw, header.get_data_offset(), order="F")
        proxy = nibabel.arrayproxy.ArrayProxy(io.BytesIO(raw.data), header)
        return header, np.asanyarray(proxy)


def read_header(path: str, max_case_gb: float) -> Any:
    """nibabel's header of a file; arguments and errors as in `read_nifti`."""
    with _one_line(path), _open(path) as file:
        return _header(path, file, max_case_gb)[0]


def slice_shape_of(path: str, max_case_gb: float) -> tuple[int, int] | None:
    """(H, W) of the axial slices of a file, by its header alone; None if that does not tell."""
    try:
        with _one_line(path), _open(path) as file:
            header, _, _ = _header(path, file, max_case_gb)
            height, width, _ = lps_grid(header.get_best_affine(), header.get_data_shape()[:3]).shape
            return height, width
    except BratsError:
        return None


def check_case_size(paths: Iterable[str], max_case_gb: float) -> None:
    """Refuses files that together need more memory than `max_case_gb`; reads headers only.

    Raises:
      BratsError: they do, or one of them has no readable header.
    """
    total = 0
    for path in paths:
        with _one_line(path), _open(path) as file:
            total += _header(path, file, max_case_gb)[2]
        check_case_bytes(path, total, max_case_gb)


def _open(path: str) -> BinaryIO:
    check_regular(Path(path))
    return open(path, "rb")


def _header(path: str, file: BinaryIO, max_case_gb: float) -> tuple[Any, int, int]:
    """The header of a file, the end of its voxels in bytes from the start, and their memory."""
    import nibabel

    packed = file.read(2) == _GZIP
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    start = b""
    for block in _contents(file):
        start += block[:_HEADERS]
        if len(start) >= _HEADERS:
            break
    two = nibabel.Nifti2Header.may_contain_header(start)
    kind = nibabel.Nifti2Header if two else nibabel.Nifti1Header
    if len(start) < kind.sizeof_hdr:
        raise ValueError("it is too short for a NIfTI header")
    header = kind(start[: kind.sizeof_hdr])
    if header["magic"].item() != kind.single_magic:
        raise ValueError("its voxels are in another file (.img), or it is not NIfTI; convert it")
    if np.isinf([header["scl_slope"], header["scl_inter"]]).any():
        raise ValueError("the scale in its header is infinite")
    shape = header.get_data_shape()
    if not shape or min(shape) < 1:
        raise ValueError(f"its header declares a volume of {' x '.join(map(str, shape))} voxels")
    count = 1
    for length in shape:
        count *= int(length)
    end = int(header.get_data_offset()) + count * header.get_data_dtype().itemsize
    if end > (size * _MOST_PACKED if packed else size):
        raise ValueError(f"its {size:,} bytes cannot hold the {end:,} that its header declares")
    # Images become float32 for the network, and float64 if the header has a scale.
    scaled = header.get_slope_inter() not in _NO_SCALE
    memory = count * (8 if scaled else max(4, header.get_data_dtype().itemsize))
    check_case_bytes(path, memory, max_case_gb)
    return header, end, memory


def _contents(file: BinaryIO) -> Iterator[bytes]:
    """The contents of a file in blocks, unpacked; checks the lengths and checksums of gzip."""
    piece = file.read(_PIECE)
    if piece[:2] != _GZIP:
        while piece:
            yield piece
            piece = file.read(_BLOCK)
        return
    while True:  # a gzip file consists of one or more members
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        while not member.eof:
            piece = piece or file.read(_PIECE)
            block = member.decompress(piece, _BLOCK)
            if block:
                yield block
            elif not piece:
                raise ValueError("the compressed data end too early")
            piece = member.unconsumed_tail
        piece = member.unused_data or file.read(_PIECE)
        if not piece.strip(b"\0"):  # padding
            piece = b"".join(iter(lambda: file.read(_PIECE).strip(b"\0"), b""))
            if not piece:
                return


@contextlib.contextmanager
def _one_line(path: str) -> Iterator[None]:
    """Turns the dozen kinds of error of zlib and nibabel into one line."""
    try:
        yield
    except (BratsError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, zlib.error) and "incorrect" in str(error):
            error = ValueError("CRC check failed")
        raise unreadable(path, error) from None
