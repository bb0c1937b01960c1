"""A model as a pure function of its state: split once, then `apply` inside jit and grad."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


def split(model: nnx.Module) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """Returns (graphdef, params, stats): the static structure, what is trained, BatchNorm's."""
    graphdef, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, stats = states
    return graphdef, params, stats


def apply(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    stats: nnx.State,
    x: Float[Array, "b h w c"],
    *,
    train: bool,
) -> tuple[Any, nnx.State]:
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
    return y, nnx.state(model, nnx.BatchStat) if train else stats


def count_parameters(params: nnx.State) -> int:
    """Number of scalars in a state, e.g. 23,508,032 for the encoder with three channels."""
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
