"""Counts FLOPs, bytes and kernel launches of a training step from its trace; needs no GPU.

    python benchmarks/gpu/roofline.py                                  # both stages on an H100
    python benchmarks/gpu/roofline.py --tflops=989 --bandwidth=4.8     # on an H200

Counts the FLOPs of each convolution and matrix product, forward and for both gradients, without
multiplications by the zeros of a dilation; the bytes that each must read and write; eight passes
over each normalised map (statistics, normalisation and their gradients); and the bytes that Adam
reads and writes per parameter, in float32. Divides them by the published peaks of a GPU; gpu.py
measures the share of these peaks that a real GPU reaches.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from benchmarks import measure
from brats_jax import models
from brats_jax.runtime import forms
from brats_jax.tasks import Pretraining, Segmentation

# Reads parameter, gradient and two moments and writes all but the gradient, in float32.
ADAM_BYTES = 7 * 4
PASSES = 8  # reads and writes of each normalised map


def count_parameters(params: models.Weights) -> int:
    """Number of scalars in the parameters of a network."""
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))


def products(jaxpr: Any) -> Iterator[Any]:
    """All convolutions and matrix products of a traced function and of functions it calls."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from products(inner)


def flops(equation: Any) -> float:
    """Two per multiplication, without those by the zeros of a dilation."""
    left, right = (variable.aval.shape for variable in equation.invars)
    out = np.prod(equation.outvars[0].aval.shape, dtype=float)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * out * float(np.prod([left[axis] for axis in contracted], dtype=float))
    outputs = equation.params["dimension_numbers"].rhs_spec[0]
    dilation = np.prod(equation.params["lhs_dilation"], dtype=float)
    return 2 * out * np.prod(right, dtype=float) / right[outputs] / dilation


def moved(equation: Any) -> float:
    """Bytes of operands and results."""
    avals = [variable.aval for variable in (*equation.invars, *equation.outvars)]
    return float(sum(np.prod(a.shape, dtype=float) * a.dtype.itemsize for a in avals))


def count(
    stage: str, batch: int, size: int, width: int, dtype: Any = jnp.bfloat16
) -> dict[str, float]:
    """FLOPs, bytes and kernels of one training step.

    Args:
      stage: 'pretrain' or 'segment'.
      batch: number of patches.
      size: side of a patch.
      width: channels of the stem.
      dtype: compute type.

    Returns:
      'flops'; bytes of 'products', 'maps' and 'adam'; numbers of 'kernels' (convolutions and
      products) and, approximately, of 'others'.
    """
    kind = {"segment": Segmentation, "pretrain": Pretraining}[stage]
    task = kind(width=width, dtype=dtype)
    graph, params, stats = models.split(task.build(0))
    image = jax.ShapeDtypeStruct((batch, size, size, 4), jnp.float16)
    label = jax.ShapeDtypeStruct((batch, size, size), jnp.uint8)

    def loss(params: Any, image: Any, label: Any) -> Any:
        x, target = task.prepare({"image": image, "label": label}, training=False)
        output, _ = models.apply(graph, params, stats, x, train=True)
        return task.loss(output, target)

    forward = list(products(jax.make_jaxpr(loss)(params, image, label).jaxpr))
    both = list(products(jax.make_jaxpr(jax.grad(loss))(params, image, label).jaxpr))
    maps = sum(
        np.prod(e.outvars[0].aval.shape, dtype=float) * e.outvars[0].aval.dtype.itemsize
        for e in forward
    )
    parameters = count_parameters(params)
    return {
        "flops": sum(map(flops, both)),
        "products": sum(map(moved, both)),
        "maps": PASSES * maps,
        "adam": float(ADAM_BYTES * parameters),
        "kernels": len(both),
        # Per map: statistics, normalisation and two for their gradients. One per parameter array.
        "others": 4 * len(forward) + len(jax.tree.leaves(params)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tflops", type=float, default=989.0, help="published TFLOP/s in dense bfloat16"
    )
    parser.add_argument("--bandwidth", type=float, default=3.35, help="published TB/s")
    parser.add_argument("--launch", type=float, default=2.5, help="microseconds per kernel")
    parser.add_argument("--batches", default="16,128")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    arguments = parser.parse_args()
    for stage in ("segment", "pretrain"):
        for batch in map(int, arguments.batches.split(",")):
            with forms.traced_for("gpu"):  # counts the GPU's operations on any machine
                n = count(stage, batch, arguments.size, arguments.width)
            traffic = n["products"] + n["maps"] + n["adam"]
            times = {
                "arithmetic": n["flops"] / arguments.tflops / 1e12,
                "memory": traffic / arguments.bandwidth / 1e12,
                "launches": (n["kernels"] + n["others"]) * arguments.launch / 1e6,
            }
            shown = ", ".join(f"{name} {1e3 * t:.2f} ms" for name, t in times.items())
            slowest = max(times.values())
            print(
                f"{stage}, batch {batch}: {n['flops'] / 1e9:.0f} GFLOP "
                f"({n['flops'] / batch / 1e9:.2f} per patch), {traffic / 1e9:.2f} GB (products "
                f"{n['products'] / 1e9:.2f}, maps {n['maps'] / 1e9:.2f}, Adam "
                f"{n['adam'] / 1e9:.2f}), {n['kernels']:.0f} products and about "
                f"{n['others']:.0f} other kernels\n  {shown}: at most {batch / slowest:.0f} "
                f"patches/s if these overlap, {batch / sum(times.values()):.0f} if not"
            )
    print(f"  counted on {measure.where()}")


if __name__ == "__main__":
    main()
