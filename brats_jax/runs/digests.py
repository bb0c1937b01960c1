"""Digests of checkpoints: SHA-256 of arrays and of JSON documents."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def of_state(state: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of each part of a state, over type, shape and bytes of its arrays.

    Args:
      state: pytrees of arrays on the host or on devices of this process, by name.

    Returns:
      Hexadecimal digests, by the same names. The order of a tree decides, not the names in it.
    """
    return {name: _of_tree(tree) for name, tree in state.items()}


def _of_tree(tree: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(jax.device_get(leaf))
        digest.update(f"{array.dtype.name}{np.shape(leaf)}".encode())
        # As bytes: NumPy's buffers do not know bfloat16.
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def of_document(document: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON document; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
