"""A model as a pure function of its state: split once, then `apply` inside jit and grad."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

# Parameters or BatchNorm statistics: nested dicts of arrays, keyed by attribute and list index.
Weights = dict[Any, Any]


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


def count_parameters(params: Weights) -> int:
    """Number of scalars in a state, e.g. 23,508,032 for the encoder with three channels."""
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
