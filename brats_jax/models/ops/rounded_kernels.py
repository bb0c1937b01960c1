"""Kernels rounded to the compute type before a training step instead of within it."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from brats_jax.models.functional import AUXILIARY, Weights
from brats_jax.runtime import forms

# Kernels by their path in the parameters, as jax.tree_util.keystr writes it.
Kernels = dict[str, jax.Array]

FLOAT32_PARTS = ("head", AUXILIARY)  # parts of a model that compute in float32, whatever its dtype


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
    if forms.plain("rounded"):
        return rounded_kernels_plain(params, dtype)
    if dtype == jnp.float32:
        return {}
    leaves = jax.tree.flatten_with_path(params)[0]
    return {
        jax.tree_util.keystr(path): leaf.astype(dtype)
        for path, leaf in leaves
        if leaf.ndim == 4 and path[0].key not in FLOAT32_PARTS
    }


def rounded_kernels_plain(params: Weights, dtype: DTypeLike) -> Kernels:
    """The plain form of `rounded_kernels`: none, so that each layer rounds its own kernel."""
    return {}


def with_kernels(params: Weights, kernels: Kernels, dtype: DTypeLike | None = None) -> Weights:
    """Parameters (or gradients) with `kernels` in their places, cast to `dtype` where given."""

    def choose(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        kernel = kernels.get(jax.tree_util.keystr(path), leaf)
        return kernel if dtype is None else kernel.astype(dtype)

    return jax.tree.map_with_path(choose, params)
