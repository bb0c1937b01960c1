"""The network's forward pass of a training step, and how devices share it and its gradients."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from brats_jax import models
from brats_jax.errors import BratsError
from brats_jax.models import Weights
from brats_jax.models.ops.groups import WHOLE_BATCH, Groups, normalised_over
from brats_jax.runtime.devices import AXIS

# (parameters, statistics, images) -> (output, new statistics).
Forward = Callable[[Weights, Weights, jax.Array], tuple[Any, Weights]]


def forward_of(
    graph: nnx.GraphDef, mesh: Mesh, norm_group: int = 0, gradient_sum: str = "auto"
) -> Forward:
    """The forward pass in training, as a function to differentiate.

    One program over the whole batch, which the compiler divides among the devices, if BatchNorm
    normalises over the whole batch. With groups, each device runs the program of its own samples
    (`shard_map`): where it holds whole groups, no message passes for the statistics, and the
    gradients of all parameters are added up at once at the end.

    Args:
      graph: the network's static structure.
      mesh: the devices.
      norm_group: samples of a group over which BatchNorm normalises; 0: the whole batch.
      gradient_sum: of `devices.GRADIENT_SUMS`, of the kernels; vectors are added up in float32.

    Returns:
      (parameters, statistics, images) -> (output, new statistics); raises BratsError
      where `gradient_sum` is not possible.
    """

    def whole(weights: Weights, stats: Weights, x: jax.Array) -> tuple[Any, Weights]:
        return models.apply(graph, weights, stats, x, train=True)

    def forward(weights: Weights, stats: Weights, x: jax.Array) -> tuple[Any, Weights]:
        groups = groups_of(len(x), norm_group)
        own = groups_of_device(len(x), norm_group, mesh.size)
        check_gradient_sum(len(x), norm_group, mesh.size, gradient_sum)
        if mesh.size == 1 or own is None or (groups == WHOLE_BATCH and gradient_sum == "auto"):
            with normalised_over(groups):
                return whole(weights, stats, x)

        def part(weights: Weights, stats: Weights, x: jax.Array) -> tuple[Any, Weights]:
            with normalised_over(own):
                replicated = _with_summed_gradients(weights, gradient_sum)
                output, stats = whole(replicated, _device_varying(stats), x)
            mean = lax.psum(vector_of(stats), AXIS) / mesh.size
            return output, tree_of(mean, stats)

        everywhere, divided = PartitionSpec(), PartitionSpec(AXIS)
        return jax.shard_map(
            part,
            mesh=mesh,
            in_specs=(everywhere, everywhere, divided),
            out_specs=(divided, everywhere),
        )(weights, stats, x)

    return forward


def groups_of(batch_size: int, norm_group: int) -> Groups:
    """The groups of a batch, for a program that sees all of it."""
    return WHOLE_BATCH if norm_group in (0, batch_size) else Groups(norm_group)


def groups_of_device(batch_size: int, norm_group: int, devices: int) -> Groups | None:
    """The groups of one device's samples; None where a group ends within those of a device."""
    size, own = norm_group or batch_size, batch_size // devices
    if own % size == 0:
        return Groups(size)
    return Groups(own, AXIS, size // own) if size % own == 0 else None


def check_gradient_sum(batch_size: int, norm_group: int, devices: int, gradient_sum: str) -> None:
    """Raises BratsError if the compiler alone can decide how gradients are added up."""
    if gradient_sum != "auto" and groups_of_device(batch_size, norm_group, devices) is None:
        raise BratsError(
            f"config.train.gradient_sum_dtype={gradient_sum}: each of {devices} devices holds "
            f"{batch_size // devices} patches, which config.train.norm_group={norm_group} neither "
            "divides nor is a multiple of; choose such a group, or gradient_sum_dtype=auto"
        )


def _device_varying(tree: Any) -> Any:
    """The same values in the type of arrays that may differ between devices (`lax.pcast`)."""
    return jax.tree.map(lambda leaf: lax.pcast(leaf, AXIS, to="varying"), tree)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _with_summed_gradients(tree: Any, gradient_sum: str) -> Any:
    """The parameters, the same on all devices; in the backward pass their gradients are summed."""
    return _device_varying(tree)


def _forward(tree: Any, gradient_sum: str) -> tuple[Any, None]:
    return _device_varying(tree), None


def _backward(gradient_sum: str, saved: None, gradients: Any) -> tuple[Any]:
    return (_sums_over_devices(gradients, gradient_sum),)


_with_summed_gradients.defvjp(_forward, _backward)


def _sums_over_devices(tree: Any, kernels_in: str = "float32") -> Any:
    """Sums of arrays over all devices, in few messages: arrays are joined to one vector.

    XLA would join them itself, but after fusion, and so copy each of them out of the sum: hundreds
    of kernels. Here the operations that read the arrays read the vector. Kernels of several pixels
    are left to XLA: cuDNN keeps them in another order, and a vector would have to reorder them.
    """
    leaves, structure = jax.tree.flatten(tree)
    sums: list[jax.Array] = list(leaves)
    joined: dict[Any, list[int]] = {}
    for place, leaf in enumerate(leaves):
        wanted = kernels_in if leaf.ndim == 4 else "float32"
        dtype = leaf.dtype if wanted == "auto" else jnp.dtype(wanted)
        if leaf.ndim == 4 and leaf.shape[:2] != (1, 1):
            sums[place] = lax.psum(leaf.astype(dtype), AXIS).astype(leaf.dtype)
        else:
            joined.setdefault(dtype, []).append(place)
    for dtype, every in joined.items():
        for first in range(0, len(every), _MOST_ARRAYS):
            places = every[first : first + _MOST_ARRAYS]
            some = [leaves[place] for place in places]
            total = lax.psum(vector_of([leaf.astype(dtype) for leaf in some]), AXIS)
            for place, part in zip(places, tree_of(total, some), strict=True):
                sums[place] = part.astype(leaves[place].dtype)
    return jax.tree.unflatten(structure, sums)


# Arrays that are joined to one vector: XLA computes so many while it joins them, in one kernel.
_MOST_ARRAYS = 16


def vector_of(tree: Any) -> jax.Array:
    """The arrays of a tree, joined to one vector."""
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])


def tree_of(vector: jax.Array, tree: Any) -> Any:
    """The arrays in a vector of `vector_of`, with the structure and the shapes of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = zip(jnp.split(vector, ends), leaves, strict=True)
    return jax.tree.unflatten(structure, [part.reshape(leaf.shape) for part, leaf in parts])
