"""Whether a file of a prediction is whole, or was cut short by a copy or a full disk."""

import zlib
from pathlib import Path

_ENDS = {".png": b"IEND\xaeB`\x82", ".html": b"</html>"}
_CHUNK = 2**20


def is_whole(path: Path) -> bool:
    """Whether a .nii.gz decompresses to its end, or a .png or .html has its last bytes.

    Files with other endings count as whole; one that cannot be read does, too: somebody may be
    able to read it.
    """
    try:
        if path.suffix == ".gz":
            return _decompresses(path)
        end = _ENDS.get(path.suffix)
        return end is None or end in path.read_bytes()[-64:]
    except OSError:
        return True


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
