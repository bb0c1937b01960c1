"""Convolution of maps: products where XLA:CPU multiplies faster than it convolves."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from brats_jax.models.ops.product import product
from brats_jax.runtime import forms

DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")

Padding = tuple[tuple[int, int], tuple[int, int]]


def conv2d(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    *,
    stride: int = 1,
    padding: Padding | None = None,
) -> Float[Array, "b ho wo o"]:
    """Cross-correlation of `x` with `kernel`, zero padded by (k - 1) // 2 as in torch.

        y[m, n] = sum over a, c of x[s m + a - p, s n + c - p] k[a, c],   p = (k - 1) // 2

    A 1x1 kernel without padding is a matrix product over the channels: XLA:CPU's convolution
    takes 1.5 times as long (benchmarks/forms.py).

    Args:
      x: maps.
      kernel: weights, computed in the dtype of `x`.
      stride: step along both axes.
      padding: zeros ((top, bottom), (left, right)); (k - 1) // 2 on each side where None.
    """
    kernel, size = kernel.astype(x.dtype), kernel.shape[:2]
    if padding is None:
        if size == (1, 1) and not forms.plain("product"):
            x = x[:, ::stride, ::stride]
            if forms.on_cpu():
                return product(x, kernel[0, 0])
            return jnp.einsum("bhwi,io->bhwo", x, kernel[0, 0])
        few = _few_pixels(x, kernel.shape[-1], stride)
        if size == (3, 3) and few and forms.on_cpu() and not forms.plain("patches"):
            return conv3x3_of_patches(x, kernel, stride=stride)
    return conv2d_plain(x, kernel, stride=stride, padding=padding)


def conv2d_plain(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    *,
    stride: int = 1,
    padding: Padding | None = None,
) -> Float[Array, "b ho wo o"]:
    """The plain form of `conv2d`: XLA's convolution."""
    if padding is None:
        height, width = kernel.shape[:2]
        padding = (((height - 1) // 2,) * 2, ((width - 1) // 2,) * 2)
    return lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (stride, stride),
        padding,
        dimension_numbers=DIMENSION_NUMBERS,
    )


def conv3x3_of_patches(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"], *, stride: int = 1
) -> Float[Array, "b ho wo o"]:
    """`conv2d` of a 3x3 kernel as one product with the patches of a map of few pixels.

    XLA:CPU convolves fast in one memory order only. For the gradient of the input it first copies
    the transposed kernel. The kernel is far larger than a map of few pixels, and its copy takes
    longer than the products. Here the patches are copied, nine times the map; the kernel and its
    gradient stay in their order.

    Args:
      x: maps.
      kernel: weights in the dtype of `x`; sums are in float32.
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


def _few_pixels(x: jax.Array, outputs: int, stride: int) -> bool:
    """Whether patches are faster: the output has fewer pixels than twice its channels.

    For larger maps the patches take longer to copy than the kernel.
    """
    pixels = x.shape[0] * math.prod(-(-size // stride) for size in x.shape[1:3])
    return pixels < 2 * outputs
