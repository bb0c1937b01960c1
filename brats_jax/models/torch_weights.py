"""Weights of a network under torch's names and in torch's layouts.

The encoder has torchvision's names (`conv1.weight`, `layer1.0.bn1.running_mean`); names of
decoder and head begin with their part (`decoder.stages.0.block1.conv.weight`, `head.weight`).
"""

import hashlib
from collections.abc import Mapping
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
            if _is_transposed(path):
                value = value[::-1, ::-1].transpose(2, 3, 0, 1)
            else:
                value = value.transpose(3, 2, 0, 1)
        state[torch_name(path)] = np.ascontiguousarray(value)
    return dict(sorted(state.items()))


def from_torch_state(
    state: Mapping[str, np.ndarray], params: Weights, stats: Weights
) -> tuple[Weights, Weights]:
    """The network of a torch state dict: the inverse of `torch_state`.

    Args:
      state: arrays by torch's names.
      params, stats: of the network, arrays or shapes.

    Returns:
      (params, stats) of float32 arrays on the host.

    Raises:
      ValueError: a name that only one of the two has, or another shape.
    """
    left = dict(state)

    def value_of(path: LeafPath, leaf: Any) -> np.ndarray:
        name = torch_name(path)
        if name not in left:
            raise ValueError(f"'{name}' is missing")
        value = np.asarray(left.pop(name)).astype(np.float32)
        if path[-1] == "kernel" and value.ndim == 4:
            if _is_transposed(path):
                value = value.transpose(2, 3, 0, 1)[::-1, ::-1]
            else:
                value = value.transpose(2, 3, 1, 0)
        if value.shape != tuple(leaf.shape):
            raise ValueError(f"'{name}' is of another network ({list(value.shape)})")
        return np.ascontiguousarray(value)

    filled = []
    for tree in (params, stats):
        values = [value_of(path, leaf) for path, leaf in leaves(tree)]
        filled.append(jax.tree.unflatten(jax.tree.structure(tree), values))
    if left:
        raise ValueError(f"'{next(iter(left))}' is of another network")
    return filled[0], filled[1]


def _is_transposed(path: LeafPath) -> bool:
    """Whether a kernel is of a transposed convolution: decoder.stages.0.kernel."""
    return path[0] == "decoder" and len(path) == 4


def digest(state: dict[str, np.ndarray]) -> str:
    """SHA-256 of a `torch_state`: each tensor's name, shape and little-endian float32 values.

    It identifies the weights in any file format.
    """
    total = hashlib.sha256()
    for name, value in sorted(state.items()):
        total.update(f"{name} {list(value.shape)}\n".encode())
        total.update(np.ascontiguousarray(value, "<f4").tobytes())
    return total.hexdigest()
