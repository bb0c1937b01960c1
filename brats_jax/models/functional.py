"""A model as a pure function of its state: split once, then `apply` inside jit and grad."""

from collections.abc import Callable
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

# Parameters or BatchNorm statistics: nested dicts of arrays, keyed by attribute and list index.
Weights = dict[Any, Any]


def split(model: nnx.Module) -> tuple[nnx.GraphDef, Weights, Weights]:
    """Splits a model into its static structure, parameters and BatchNorm statistics.

    Returns:
      (graphdef, params, stats).
    """
    params, stats = (nnx.state(model, kind) for kind in (nnx.Param, nnx.BatchStat))
    return nnx.graphdef(model), nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def abstract(build: Callable[[], nnx.Module]) -> tuple[nnx.GraphDef, Weights, Weights]:
    """`split` of the model that `build` would make, with shapes for arrays: nothing is computed."""
    return split(nnx.eval_shape(build))


def shapes(build: Callable[[], nnx.Module]) -> Weights:
    """The parameters that `build` would make, as shapes: nothing is computed."""
    return nnx.to_pure_dict(nnx.state(nnx.eval_shape(build), nnx.Param))


AUXILIARY = "auxiliary"  # the part of a model that only its loss in training needs


def without_auxiliary(params: Weights) -> Weights:
    """The parameters that inference needs."""
    return {name: part for name, part in params.items() if name != AUXILIARY}


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
