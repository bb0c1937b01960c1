"""Whether a written file is whole, or was cut short by a copy or a full disk."""

import zipfile
import zlib
from pathlib import Path

_ENDS = {".png": b"IEND\xaeB`\x82", ".html": b"</html>"}
_CHUNK = 2**20


def is_whole(path: Path) -> bool:
    """Whether a file has the end of its format.

    A .nii.gz decompresses to its end, an .npz has the list of its arrays, a .csv ends with a line
    end, a .png and .html have their last bytes. Files with other endings count as whole; one that
    cannot be read does, too: somebody may be able to read it.
    """
    try:
        if path.suffix == ".gz":
            return _decompresses(path)
        if path.suffix == ".npz":
            return zipfile.is_zipfile(path)
        if path.suffix == ".csv":
            return _last_bytes(path, 1) in (b"\n", b"\r")
        end = _ENDS.get(path.suffix)
        return end is None or end in _last_bytes(path, 64)
    except OSError:
        return True


def _last_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - count))
        return file.read(count)


def _decompresses(path: Path) -> bool:
    """Whether the checksum at the end of a .gz is reached; keeps a megabyte in memory."""
    reader = zlib.decompressobj(wbits=31)
    with path.open("rb") as file:
        try:
            while not reader.eof:
                data = reader.unconsumed_tail or file.read(_CHUNK)
                if not data:
                    return False
                reader.decompress(data, _CHUNK)
        except zlib.error:
            return False
    return True
