"""Matrix product over the channels, with a gradient written for XLA:CPU."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from brats_jax.runtime import forms


def product(
    x: Float[Array, "b h w i"], kernel: Float[Array, "i o"], dtype: jnp.dtype | None = None
) -> Float[Array, "b h w o"]:
    """Product of every pixel's channels with a matrix.

        y[b, h, w] = x[b, h, w] @ kernel

    Args:
      x: maps.
      kernel: weights in the dtype of `x`.
      dtype: dtype of the sums and of the result; the dtype of `x` where None.
    """
    if forms.plain("product"):
        return product_plain(x, kernel, dtype)
    return _written(x, kernel, dtype)


def product_plain(
    x: Float[Array, "b h w i"], kernel: Float[Array, "i o"], dtype: jnp.dtype | None = None
) -> Float[Array, "b h w o"]:
    """The plain form of `product`: its gradients are derived."""
    # As `jnp.einsum("bhwi,io->bhwo", ...)`, which takes longer to trace.
    return lax.dot_general(x, kernel, (((3,), (0,)), ((), ())), preferred_element_type=dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _written(x: jax.Array, kernel: jax.Array, dtype: jnp.dtype | None) -> jax.Array:
    """`product` with the kernel's gradient as x' dy.

    The derived gradient is (dy' x)': XLA:CPU writes `dy` a second time, transposed, for it.
    """
    return product_plain(x, kernel, dtype)


def _forward(x: jax.Array, kernel: jax.Array, dtype: jnp.dtype | None) -> tuple:
    return _written(x, kernel, dtype), (x, kernel)


def _backward(dtype: jnp.dtype | None, saved: tuple, g: jax.Array) -> tuple:
    x, kernel = saved
    d_x = lax.dot_general(g, kernel.astype(g.dtype), (((3,), (1,)), ((), ())))
    # As matrices: for a sum over three axes XLA would copy both maps first.
    flat, flat_g = (a.reshape(-1, a.shape[-1]).astype(g.dtype) for a in (x, g))
    d_kernel = lax.dot_general(flat, flat_g, (((0,), (0,)), ((), ())))
    return d_x.astype(x.dtype), d_kernel.astype(kernel.dtype)


_written.defvjp(_forward, _backward)
