"""The size of a network: its parameters, and the multiplications for one image."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import jaxprs_in_params

from brats_jax.models import functional


@dataclass(frozen=True)
class Cost:
    """The size of a network.

    Attributes:
      parameters: their number, without those that only a loss in training needs.
      multiplications: with their additions (MAC), of convolutions and products, for one image in
        prediction. Normalisation, activations and interpolation are left out.
    """

    parameters: int
    multiplications: int

    def words(self) -> str:
        """'2.05 million parameters, 0.174 billion multiplications'."""
        return (
            f"{self.parameters / 1e6:.3g} million parameters, "
            f"{self.multiplications / 1e9:.3g} billion multiplications"
        )


def cost_of(build: Callable[[], nnx.Module], image: tuple[int, int, int]) -> Cost:
    """The size of the network that `build` would make; nothing is computed or compiled.

    Counted in the traced program, so that every form of an operation counts as it computes.

    Args:
      build: makes the network.
      image: [H, W, C] of its input.
    """
    graph, params, stats = functional.abstract(build)
    leaves = jax.tree.leaves(functional.without_auxiliary(params))

    def run(params: Any, stats: Any, x: jax.Array) -> Any:
        return functional.apply(graph, params, stats, x, train=False)[0]

    traced = jax.make_jaxpr(run)(params, stats, jax.ShapeDtypeStruct((1, *image), jnp.float32))
    count = sum(math.prod(leaf.shape) for leaf in leaves)
    return Cost(count, _of_program(traced.jaxpr))


def _of_program(program: Any) -> int:
    total = 0
    for equation in program.eqns:
        if equation.primitive.name == "conv_general_dilated":
            total += _of_convolution(equation)
        elif equation.primitive.name == "dot_general":
            total += _of_product(equation)
        for inner in jaxprs_in_params(equation.params):
            total += _of_program(inner)
    return total


def _of_convolution(equation: Any) -> int:
    """Pixels out, times channels out, times the inputs of each."""
    kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
    outputs = numbers.rhs_spec[0]
    inputs = math.prod(size for axis, size in enumerate(kernel) if axis != outputs)
    return int(math.prod(equation.outvars[0].aval.shape) * inputs)


def _of_product(equation: Any) -> int:
    """Results, times the length of each sum."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return int(math.prod(equation.outvars[0].aval.shape) * math.prod(shape[a] for a in contracted))
