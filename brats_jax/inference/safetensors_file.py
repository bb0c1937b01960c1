"""Arrays as the bytes of a safetensors file: float32 and bfloat16, the same bytes each time."""

import json
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

_DTYPES = {"F32": np.dtype(np.float32), "BF16": np.dtype(jnp.bfloat16)}


def encoded(state: Mapping[str, np.ndarray], facts: Mapping[str, str]) -> bytes:
    """The content of a file. Equal arrays and facts give equal bytes.

    Args:
      state: arrays by name.
      facts: texts by name, for the header.
    """
    return _with_sorted_header(safetensors.numpy.save(dict(state), dict(facts)))


def decoded(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file, by name.

    Raises:
      ValueError: no such file, or other types of numbers.
    """
    try:
        found = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None
    arrays = {}
    for name, tensor in found:
        if tensor["dtype"] not in _DTYPES:
            raise ValueError(f"'{name}' is of type {tensor['dtype']}")
        values = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
        arrays[name] = values.reshape(tensor["shape"])
    return arrays


def _with_sorted_header(content: bytes) -> bytes:
    """A safetensors file whose facts stand in alphabetical order; the library's order varies.

    The file is the length of the header in 8 bytes, a header in JSON, and the arrays.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    facts = dict(sorted(header.pop("__metadata__", {}).items()))
    tensors = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    text = json.dumps({"__metadata__": facts, **dict(tensors)}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the arrays are aligned
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
