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

FLOAT32_PARTS = ("head",)  # parts of a model that compute in float32, whatever its dtype


def split(model: nnx.Module) -> tuple[nnx.GraphDef, Weights, Weights]:
    """Splits a model into its static structure, parameters and BatchNorm statistics.

    Returns:
      (graphdef, params, stats).
    """
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
    """Runs a model as a pure function: it returns new statistics and stores nothing.

    Args:
      graphdef, params, stats: as `split` gives them.
      x: images.
      train: normalise by the batch and update the running statistics (True), or use them (False).

    Returns:
      The model's result and the new statistics; the given ones where `train` is False.
    """
    # A copy, because NNX refuses to write inside a gradient to variables made outside of it.
    model = nnx.merge(graphdef, params, stats, copy=True)
    y = model(x, train=train)
    return y, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)) if train else stats


def rounded_kernels(params: Weights, dtype: DTypeLike) -> Kernels:
    """The kernels of a model, rounded to its compute type as its layers would round them.

    A step with these kernels (`with_kernels`) computes the same numbers. In a loop, each step
    rounds the kernels of the next one while it updates them, which saves a pass over all of them.

    Args:
      params: float32 parameters.
      dtype: compute type of the model.

    Returns:
      The kernels by path; empty where `dtype` is float32.
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
    """Parameters (or gradients) with `kernels` in their places, cast to `dtype` where given."""

    def choose(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        kernel = kernels.get(jax.tree_util.keystr(path), leaf)
        return kernel if dtype is None else kernel.astype(dtype)

    return jax.tree.map_with_path(choose, params)


def count_parameters(params: Weights) -> int:
    """Number of scalars in a state, e.g. 23,508,032 for the encoder with three channels."""
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
