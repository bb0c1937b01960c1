"""Weights of a network under torch's names and in torch's layouts, and back.

The encoder's names are torchvision's (`conv1.weight`, `layer1.0.bn1.running_mean`), decoder and
head keep their own before them (`decoder.stages.0.block1.conv.weight`, `head.weight`).
"""

import hashlib
from typing import Any

import jax
import numpy as np

from brats_jax.models import Weights

LeafPath = tuple[str, ...]

# Ours -> torch's; a kernel is also transposed.
TORCH_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def leaves(state: Any, below: str | None = None) -> list[tuple[LeafPath, Any]]:
    """Leaves of a state or nested dict with paths such as ('encoder', 'layer1', '0', ...)."""
    found = []
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state):
        # A flax State ends in the attribute `.value` of its variable, a plain dict does not.
        path = tuple(
            str(getattr(key, "key", getattr(key, "idx", None)))
            for key in keys
            if not isinstance(key, jax.tree_util.GetAttrKey)
        )
        if below is None or path[0] == below:
            found.append((path, leaf))
    return found


def torch_name(path: LeafPath) -> str:
    """('encoder', 'layer1', '0', 'bn1', 'scale') -> 'layer1.0.bn1.weight'."""
    parts = path[1:-1] if path[0] == "encoder" else path[:-1]
    return ".".join((*parts, TORCH_NAMES[path[-1]]))


def torch_state(params: Weights, stats: Weights) -> dict[str, np.ndarray]:
    """A network as a torch state dict: name -> float32 array, sorted by name.

    Convolutions are OIHW. The transposed convolutions of a pretext network's decoder are
    `ConvTranspose2d(i, o, 4, stride=2, padding=1)`: IOHW, with the kernel turned by 180 degrees
    (see `models.ops.conv_transpose_4x4_stride2`).
    """
    state = {}
    for path, leaf in [*leaves(params), *leaves(stats)]:
        value = np.asarray(leaf, np.float32)
        if path[-1] == "kernel":
            transposed = path[0] == "decoder" and len(path) == 4  # decoder.stages.0.kernel
            if transposed:
                value = value[::-1, ::-1].transpose(2, 3, 0, 1)
            else:
                value = value.transpose(3, 2, 0, 1)
        state[torch_name(path)] = np.ascontiguousarray(value)
    return dict(sorted(state.items()))


def digest(state: dict[str, np.ndarray]) -> str:
    """SHA-256 of a `torch_state`: each tensor's name, shape and little-endian float32 values.

    Whoever has the weights in any file can compute it again and tell whether they are the same.
    """
    total = hashlib.sha256()
    for name, value in sorted(state.items()):
        total.update(f"{name} {list(value.shape)}\n".encode())
        total.update(np.ascontiguousarray(value, "<f4").tobytes())
    return total.hexdigest()
