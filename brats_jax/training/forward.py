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

    Where BatchNorm normalises over the whole batch, it is one program over the batch, which the
    compiler divides among the devices. With groups, each device runs the program over its own
    samples (`shard_map`). If it holds whole groups, the devices exchange no message for the
    statistics of the groups, and add up the gradients of all parameters at once at the end.

    Args:
      graph: the network's static structure.
      mesh: the devices.
      norm_group: samples of a group over which BatchNorm normalises; 0: the whole batch.
      gradient_sum: one of `devices.GRADIENT_SUMS`, the type in which the devices add up the
        gradients of kernels; those of vectors are added up in float32.

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


def _forward_of_sum(tree: Any, gradient_sum: str) -> tuple[Any, None]:
    return _device_varying(tree), None


def _backward_of_sum(gradient_sum: str, saved: None, gradients: Any) -> tuple[Any]:
    return (_sums_over_devices(gradients, gradient_sum),)


_with_summed_gradients.defvjp(_forward_of_sum, _backward_of_sum)


def _sums_over_devices(tree: Any, kernels_in: str = "float32") -> Any:
    """Sums of arrays over all devices, in few messages: small arrays are joined to vectors.

    XLA also joins arrays into one message, but only after it has fused operations: it then copies
    each array out of the sum by a kernel of its own, hundreds in all. With the vectors made here,
    the operations that follow read their part of the sum directly. Convolution kernels of several
    pixels are summed one by one: cuDNN keeps them in another order of memory, so that joining them
    would cost a copy.

    Args:
      tree: the arrays.
      kernels_in: the type in which kernels are summed; 'auto': their own. Others: float32.
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
        for first in range(0, len(every), _MOST_JOINED):
            places = every[first : first + _MOST_JOINED]
            some = [leaves[place] for place in places]
            total = lax.psum(vector_of([leaf.astype(dtype) for leaf in some]), AXIS)
            for place, part in zip(places, tree_of(total, some), strict=True):
                sums[place] = part.astype(leaves[place].dtype)
    return jax.tree.unflatten(structure, sums)


# Arrays in one vector. Up to this number XLA computes and joins them in a single kernel.
_MOST_JOINED = 16


def vector_of(tree: Any) -> jax.Array:
    """The arrays of a tree, joined to one vector."""
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])


def tree_of(vector: jax.Array, tree: Any) -> Any:
    """The arrays in a vector of `vector_of`, with the structure and the shapes of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = zip(jnp.split(vector, ends), leaves, strict=True)
    return jax.tree.unflatten(structure, [part.reshape(leaf.shape) for part, leaf in parts])
