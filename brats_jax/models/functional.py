"""A model as a pure function of its state: split once, then `apply` inside jit and grad."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

# Parameters or BatchNorm statistics: nested dicts of arrays, keyed by attribute and list index.
Weights = dict[Any, Any]

# Kernels by their path in the parameters, as jax.tree_util.keystr writes it.
Kernels = dict[str, jax.Array]

FLOAT32_PARTS = ("head",)  # of every model, whatever the rest computes in


def split(model: nnx.Module) -> tuple[nnx.GraphDef, Weights, Weights]:
    """Returns (graphdef, params, stats): the static structure, what is trained, BatchNorm's."""
    params, stats = (nnx.state(model, kind) for kind in (nnx.Param, nnx.BatchStat))
    return nnx.graphdef(model), nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def apply(
    graphdef: nnx.GraphDef,
    params: Weights,
    stats: Weights,
    x: Float[Array, "b h w c"],
    *,
    train: bool,
) -> tuple[Any, Weights]:
    """Runs a model without changing anything: new statistics are returned, not stored.

    Args:
      graphdef, params, stats: as `split` gives them.
      x: images.
      train: normalise by the batch and move the running statistics (True), or use them (False).

    Returns:
      What the model returns, and the statistics after it; the given ones where `train` is False.
    """
    # A copy, because variables made outside a gradient may not be written to inside it.
    model = nnx.merge(graphdef, params, stats, copy=True)
    y = model(x, train=train)
    return y, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)) if train else stats


def rounded_kernels(params: Weights, dtype: DTypeLike) -> Kernels:
    """The kernels that a model computes with, rounded as its layers would round them.

    A step that is given them (`with_kernels`) computes the same numbers. A loop of steps has
    each step round those of the next one while it has them at hand, in place of reading them
    all again.

    Args:
      params: float32 parameters.
      dtype: what the model computes in.

    Returns:
      Nothing where `dtype` is float32.
    """
    if dtype == jnp.float32:
        return {}
    leaves = jax.tree.flatten_with_path(params)[0]
    return {
        jax.tree_util.keystr(path): leaf.astype(dtype)
        for path, leaf in leaves
        if leaf.ndim == 4 and path[0].key not in FLOAT32_PARTS
    }


def with_kernels(params: Weights, kernels: Kernels, dtype: DTypeLike | None = None) -> Weights:
    """The parameters (or gradients) with other kernels in their place, in `dtype` if given."""

    def choose(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        kernel = kernels.get(jax.tree_util.keystr(path), leaf)
        return kernel if dtype is None else kernel.astype(dtype)

    return jax.tree.map_with_path(choose, params)


def count_parameters(params: Weights) -> int:
    """Number of scalars in a state, e.g. 23,508,032 for the encoder with three channels."""
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
