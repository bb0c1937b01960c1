"""Transposed convolution 4x4 with stride 2, in a form for each platform."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from brats_jax.models.ops.convolution import DIMENSION_NUMBERS, conv2d
from brats_jax.models.ops.shift import shift
from brats_jax.runtime import forms


def conv_transpose_4x4_stride2(
    x: Float[Array, "b h w i"], kernel: Float[Array, "4 4 i o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """Transposed convolution 4x4, stride 2.

    An output row reads two of the kernel's four rows, even rows the even ones and odd rows the
    odd ones, and so do columns:

        y[2m]     = x[m-1] k[0] + x[m] k[2]
        y[2m + 1] = x[m] k[1] + x[m+1] k[3]

    The same numbers come from
      `lax.conv_transpose(x, kernel, (2, 2), "SAME")` (and `nnx.ConvTranspose`);
      `lax.conv_transpose(x, k, (2, 2), "SAME", transpose_kernel=True)` with
        `k = kernel[::-1, ::-1].swapaxes(2, 3)`, i.e. flipped and [4, 4, out, in];
      torch's `ConvTranspose2d(i, o, 4, stride=2, padding=1)` whose weight [in, out, 4, 4] is
        `kernel[::-1, ::-1].transpose(2, 3, 0, 1)`.

    Args:
      x: maps.
      kernel: weights, computed in the dtype of `x`.
    """
    if forms.plain("transposed"):
        return conv_transpose_plain(x, kernel)
    return forms.by_platform(x, kernel, cpu=_on_cpu, default=conv_transpose_as_gradient)


def conv_transpose_plain(
    x: Float[Array, "b h w i"], kernel: Float[Array, "4 4 i o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """The plain form of `conv_transpose_4x4_stride2`: a convolution of `x` dilated with zeros.

    It multiplies three zeros for each number, and takes six times as long on a CPU.

    Reference: https://github.com/jax-ml/jax/issues/31662
    """
    return lax.conv_transpose(
        x, kernel.astype(x.dtype), (2, 2), "SAME", dimension_numbers=DIMENSION_NUMBERS
    )


def _on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    if forms.on_cpu() and _kernel_is_larger(x, kernel):
        return conv_transpose_as_products(x, kernel.astype(x.dtype))
    return conv_transpose_in_phases(x, kernel)


def conv_transpose_in_phases(
    x: Float[Array, "b h w i"], kernel: Float[Array, "4 4 i o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """`conv_transpose_4x4_stride2` as four interleaved 2x2 convolutions of the small input."""
    batch, height, width, _ = x.shape
    rows = []
    for a in (0, 1):
        phases = [conv2d(x, kernel[a::2, b::2], padding=((1 - a, a), (1 - b, b))) for b in (0, 1)]
        rows.append(jnp.stack(phases, axis=3))
    y = jnp.stack(rows, axis=2)  # [b, h, row phase, w, column phase, o]
    return y.reshape(batch, 2 * height, 2 * width, kernel.shape[-1])


def conv_transpose_as_gradient(
    x: Float[Array, "b h w i"], kernel: Float[Array, "4 4 i o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """`conv_transpose_4x4_stride2` as the gradient of a convolution of stride 2.

    XLA gives this to cuDNN as one kernel. It does not recognise the plain form, where the
    kernel is not flipped (jax 0.10; benchmarks/gpu/gpu_program.py).
    """
    batch, height, width, _ = x.shape
    flipped = jnp.flip(kernel.astype(x.dtype), (0, 1)).swapaxes(2, 3)  # [4, 4, o, i]
    shape = (batch, 2 * height, 2 * width, kernel.shape[-1])
    (y,) = jax.linear_transpose(
        lambda y: conv2d(y, flipped, stride=2, padding=((1, 1), (1, 1))),
        jax.ShapeDtypeStruct(shape, x.dtype),
    )(x)
    return y


def _kernel_is_larger(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether one tap of the kernel has more numbers than a map and its product with the tap."""
    pixels, (inputs, outputs) = x.size // x.shape[-1], kernel.shape[-2:]
    return pixels * (inputs + outputs) < inputs * outputs


@jax.custom_vjp
def conv_transpose_as_products(
    x: Float[Array, "b h w i"], kernel: Float[Array, "4 4 i o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """`conv_transpose_4x4_stride2` as sixteen products with the kernel's taps.

    For maps of few pixels on CPU: the four phases would copy the kernel, which is larger.

    Args:
      x: maps.
      kernel: weights in the dtype of `x`; sums are in float32.
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
        even = shift(parts[0], 1, axis) + parts[2]
        odd = parts[1] + shift(parts[3], -1, axis)
        shape = [n * 2 if k == axis else n for k, n in enumerate(even.shape)]
        return jnp.stack([even, odd], axis + 1).reshape(shape)

    rows = [add_up([products[a, c] for c in range(4)], 2) for a in range(4)]
    return add_up(rows, 1).astype(x.dtype)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple:
    return conv_transpose_as_products(x, kernel), (x, kernel)


def _backward(saved: tuple, g: jax.Array) -> tuple:
    x, kernel = saved
    (b, h, w, inputs), outputs = x.shape, kernel.shape[-1]
    phases = g.reshape(b, h, 2, w, 2, outputs)
    move = (-1, 0, 0, 1)  # tap 0 of pixel m went to row 2(m + 1), tap 3 to 2(m - 1) + 1
    taps = [
        shift(shift(phases[:, :, a % 2, :, c % 2], move[a], 1), move[c], 2)
        for a in range(4)
        for c in range(4)
    ]
    g = jnp.stack(taps).reshape(16, b * h * w, outputs)
    # One product, [inputs, 16, outputs], for all taps: with one for each tap XLA would copy x
    # for each. The barriers keep XLA from two forms that are half as fast: a product with a
    # transposed left side, and a product that also sums over the taps.
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


conv_transpose_as_products.defvjp(_forward, _backward)
