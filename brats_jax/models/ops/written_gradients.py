"""Products and convolutions whose gradients are written out for XLA:CPU (NHWC).

XLA knows one fast form of a convolution and two of a product, and what a gradient needs in
another order it copies first: the kernel, transposed, for the gradient of the input; the
output's gradient, transposed, for that of a 1x1 kernel. Where a map has few pixels the kernel is
the larger of the two by far, and copying it takes longer than multiplying. What is below asks for
the products in an order in which everything lies already. benchmarks/forms.py compares.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(
    x: Float[Array, "b h w i"], kernel: Float[Array, "i o"], dtype: jnp.dtype | None = None
) -> Float[Array, "b h w o"]:
    """x @ kernel over the channels.

    Left to differentiation the kernel's gradient is dy' x, transposed: XLA turns that round and
    writes dy a second time, transposed. Here it is x' dy.

    Args:
      x: images.
      kernel: weights in the dtype of `x`.
      dtype: of the result and of what it adds up in; that of `x` where None.
    """
    return jnp.einsum("bhwi,io->bhwo", x, kernel, preferred_element_type=dtype)


def _product_forward(x: jax.Array, kernel: jax.Array, dtype: jnp.dtype | None) -> tuple:
    return product(x, kernel, dtype), (x, kernel)


def _product_backward(dtype: jnp.dtype | None, saved: tuple, g: jax.Array) -> tuple:
    x, kernel = saved
    d_x = lax.dot_general(g, kernel.astype(g.dtype), (((3,), (1,)), ((), ())))
    # As matrices: of a sum over three axes XLA would make copies again.
    flat, flat_g = (a.reshape(-1, a.shape[-1]).astype(g.dtype) for a in (x, g))
    d_kernel = lax.dot_general(flat, flat_g, (((0,), (0,)), ((), ())))
    return d_x.astype(x.dtype), d_kernel.astype(kernel.dtype)


product.defvjp(_product_forward, _product_backward)


def few_pixels(x: jax.Array, outputs: int, stride: int = 1) -> bool:
    """Whether `conv3x3` is for such a map: its pixels are fewer than twice its outputs.

    Above that patches are more to copy than the kernel is to be put into another order.
    """
    pixels = x.shape[0] * math.prod(-(-size // stride) for size in x.shape[1:3])
    return pixels < 2 * outputs


def conv3x3(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"], stride: int = 1
) -> Float[Array, "b ho wo o"]:
    """3x3 convolution, padded by 1, for maps of few pixels: one product with their patches.

    The patches are copied, nine times the map; the kernel and its gradient stay as they lie.

    Args:
      x: images.
      kernel: weights in the dtype of `x`; added up in float32.
      stride: step along both axes.
    """
    height, width = (-(-size // stride) for size in x.shape[1:3])
    padded = jnp.pad(x.astype(jnp.float32), ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [
        padded[:, a : a + stride * height : stride, c : c + stride * width : stride]
        for a in range(3)
        for c in range(3)
    ]
    matrix = kernel.astype(jnp.float32).reshape(-1, kernel.shape[-1])
    return product(jnp.concatenate(taps, -1), matrix).astype(x.dtype)


def kernel_is_larger(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether the products with every tap of the kernel are fewer numbers than the kernel has."""
    pixels, (inputs, outputs) = x.size // x.shape[-1], kernel.shape[-2:]
    return pixels * (inputs + outputs) < inputs * outputs


@jax.custom_vjp
def conv_transpose_4x4_stride2(
    x: Float[Array, "b h w i"], kernel: Float[Array, "4 4 i o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """`operations.conv_transpose_4x4_stride2` for maps of few pixels: sixteen products.

        y[2m]     = x[m-1] k[0] + x[m] k[2]
        y[2m + 1] = x[m] k[1] + x[m+1] k[3]

    Args:
      x: images.
      kernel: weights in the dtype of `x`.
    """
    (b, h, w, i), o = x.shape, kernel.shape[-1]
    flat = jnp.broadcast_to(x.reshape(b * h * w, i), (16, b * h * w, i))
    products = lax.dot_general(
        flat,
        kernel.reshape(16, i, o),
        (((2,), (1,)), ((0,), (0,))),
        preferred_element_type=jnp.float32,
    ).reshape(4, 4, b, h, w, o)

    def add_up(parts: list[jax.Array], axis: int) -> jax.Array:
        even = _moved_along(parts[0], 1, axis) + parts[2]
        odd = parts[1] + _moved_along(parts[3], -1, axis)
        shape = [n * 2 if k == axis else n for k, n in enumerate(even.shape)]
        return jnp.stack([even, odd], axis + 1).reshape(shape)

    rows = [add_up([products[a, c] for c in range(4)], 2) for a in range(4)]
    return add_up(rows, 1).astype(x.dtype)


def _transpose_forward(x: jax.Array, kernel: jax.Array) -> tuple:
    return conv_transpose_4x4_stride2(x, kernel), (x, kernel)


def _transpose_backward(saved: tuple, g: jax.Array) -> tuple:
    x, kernel = saved
    (b, h, w, inputs), outputs = x.shape, kernel.shape[-1]
    phases = g.reshape(b, h, 2, w, 2, outputs)
    move = (-1, 0, 0, 1)  # tap 0 of pixel m went to row 2(m + 1), tap 3 to 2(m - 1) + 1
    taps = [
        _moved(phases[:, :, a % 2, :, c % 2], move[a], move[c]) for a in range(4) for c in range(4)
    ]
    g = jnp.stack(taps).reshape(16, b * h * w, outputs)
    # One product, [inputs, 16, outputs], for all taps: by taps each would get a copy of x. Adam
    # reads it in the kernel's order. The barriers keep XLA from forms that are half as fast: a
    # product with a transposed left side, and one that adds up the taps itself.
    flat = lax.optimization_barrier(x.reshape(b * h * w, inputs).T)
    d_kernel = lax.dot_general(
        flat, g, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
    ).swapaxes(0, 1)
    parts = lax.dot_general(
        g,
        kernel.reshape(16, inputs, outputs),
        (((2,), (2,)), ((0,), (0,))),
        preferred_element_type=jnp.float32,
    )
    parts = lax.optimization_barrier(parts)
    d_x = functools.reduce(jnp.add, [parts[tap] for tap in range(16)])
    return d_x.reshape(x.shape).astype(x.dtype), d_kernel.reshape(kernel.shape).astype(kernel.dtype)


conv_transpose_4x4_stride2.defvjp(_transpose_forward, _transpose_backward)


def _moved(x: jax.Array, down: int, right: int) -> jax.Array:
    return _moved_along(_moved_along(x, down, 1), right, 2)


def _moved_along(x: jax.Array, by: int, axis: int) -> jax.Array:
    """Moved along an axis; zero comes in, and what goes over the edge is lost."""
    if not by:
        return x
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (by, -by, 0)
    return lax.pad(x, np.zeros((), x.dtype), widths)
