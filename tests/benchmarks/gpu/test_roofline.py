"""FLOPs and bytes of a traced step."""

import jax
import jax.numpy as jnp

from benchmarks.gpu import roofline


def test_flops_of_a_step_count_both_gradients():
    """A 1x1 convolution as a product and a strided 3x3 one, forward and both gradients."""

    def loss(params, x):
        y = jnp.einsum("bhwc,cd->bhwd", x, params[0])
        y = jax.lax.conv_general_dilated(
            y, params[1], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y.sum()

    params = (jnp.zeros((3, 5)), jnp.zeros((3, 3, 5, 7)))
    x = jnp.zeros((2, 8, 8, 3))
    found = list(roofline.products(jax.make_jaxpr(jax.grad(loss))(params, x).jaxpr))
    product = 2 * (2 * 8 * 8) * 3 * 5
    convolution = 2 * (2 * 4 * 4) * 7 * 9 * 5
    # The inputs need no gradient, so the product has one. A gradient costs as much as its forward.
    assert sorted(map(roofline.flops, found)) == sorted([product] * 2 + [convolution] * 3)
    forward = next(e for e in found if e.primitive.name == "dot_general")
    assert roofline.moved(forward) == 4 * (2 * 64 * 3 + 15 + 2 * 64 * 5)
