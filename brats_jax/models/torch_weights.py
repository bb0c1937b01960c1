"""Weights of a network under torch's names and in torch's layouts.

The encoder has torchvision's names (`conv1.weight`, `layer1.0.bn1.running_mean`); names of
decoder and head begin with their part (`decoder.stages.0.block1.conv.weight`, `head.weight`).
"""

import hashlib
from typing import Any

import jax
import numpy as np

from brats_jax.models import Weights

LeafPath = tuple[str, ...]

# Our name of a leaf -> torch's; a kernel is also transposed.
TORCH_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def leaves(state: Any, below: str | None = None) -> list[tuple[LeafPath, Any]]:
    """Leaves of a state or nested dict with their paths, e.g. ('encoder', 'layer1', '0', 'scale').

    Args:
      state: an `nnx` state or nested dict.
      below: first key of the leaves to return; all leaves where None.
    """
    found = []
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state):
        # A path in a flax State ends in the attribute `.value` of its variable.
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
    """A network as a torch state dict: float32 arrays by name, sorted.

    Convolutions are OIHW. The transposed convolutions of a `ReconstructionModel`'s decoder are
    `ConvTranspose2d(i, o, 4, stride=2, padding=1)`: IOHW, with the kernel rotated by 180 degrees
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

    It identifies the weights in any file format.
    """
    total = hashlib.sha256()
    for name, value in sorted(state.items()):
        total.update(f"{name} {list(value.shape)}\n".encode())
        total.update(np.ascontiguousarray(value, "<f4").tobytes())
    return total.hexdigest()
