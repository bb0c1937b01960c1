"""Messages between two processes through pipes: a JSON header line, then arrays as raw bytes.

Both sides need NumPy alone. Nothing is pickled.
"""

import json
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

Message = tuple[dict[str, Any], dict[str, np.ndarray]]


def send(
    stream: IO[bytes], header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None
) -> None:
    """Writes a message and flushes the stream."""
    parts = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    forms = [(name, part.dtype.str, part.shape) for name, part in parts.items()]
    stream.write(json.dumps({"header": dict(header), "arrays": forms}).encode() + b"\n")
    for part in parts.values():
        stream.write(memoryview(part.reshape(-1)).cast("B"))
    stream.flush()


def receive(stream: IO[bytes]) -> Message | None:
    """Reads a message: (header, arrays); None where the other side has ended.

    Raises:
      EOFError: the other side ended in the middle of a message.
    """
    line = stream.readline()
    if not line:
        return None
    message = json.loads(line)
    arrays = {}
    for name, dtype, shape in message["arrays"]:
        array = np.empty(shape, dtype)
        view = memoryview(array.reshape(-1)).cast("B")
        while view:
            count = stream.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise EOFError("the other process ended in the middle of a message")
            view = view[count:]
        arrays[name] = array
    return message["header"], arrays
