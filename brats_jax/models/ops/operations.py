"""Array operations of the networks (NHWC), in the form that XLA runs fast."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from brats_jax.models.ops import written_gradients
from brats_jax.models.ops.written_gradients import DIMENSION_NUMBERS


def conv2d(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    *,
    stride: int = 1,
    padding: tuple[tuple[int, int], tuple[int, int]] | None = None,
) -> Float[Array, "b ho wo o"]:
    """Cross-correlation of `x` with `kernel`, zero padded by (k - 1) // 2 as torch would be.

    A 1x1 kernel without padding is computed as a matrix product over the channels: XLA's CPU
    convolution costs half as much again for the same numbers.

    Args:
      x: images.
      kernel: weights, computed in the dtype of `x`.
      stride: step along both axes.
      padding: ((top, bottom), (left, right)) zeros; (k - 1) // 2 on each side where None.
    """
    kernel = kernel.astype(x.dtype)
    height, width = kernel.shape[:2]
    if (height, width) == (1, 1) and padding is None:
        x = x[:, ::stride, ::stride]
        if on_cpu():
            return written_gradients.product(x, kernel[0, 0])
        return jnp.einsum("bhwi,io->bhwo", x, kernel[0, 0])
    if padding is None:
        few = written_gradients.few_pixels(x, kernel.shape[-1], stride)
        if (height, width) == (3, 3) and few and _only_on_cpu():
            return written_gradients.conv3x3(x, kernel, stride)
        padding = (((height - 1) // 2,) * 2, ((width - 1) // 2,) * 2)
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=DIMENSION_NUMBERS
    )


def conv2d_upsampled(
    x: Float[Array, "b h w i"],
    skip: Float[Array, "b 2*h 2*w s"] | None,
    kernel: Float[Array, "3 3 i+s o"],
) -> Float[Array, "b 2*h 2*w o"]:
    """3x3 convolution, padded by 1, of `x` up-sampled by 2 (nearest) and then `skip`.

    Written out it is `conv2d(concatenate([upsample_nearest(x), skip], -1), kernel)`. On CPU the
    part of `x` is computed the other way round: the nine products with the kernel first, on the
    small map, then what comes of them is up-sampled, shifted and added up. That is a quarter of
    the multiplications, takes 0.4 to 0.8 of the time with its gradients (the five sizes of the
    U-Net, width 64; benchmarks/forms.py), and keeps no up-sampled or concatenated map.

    Args:
      x: the coarse map; its channels come first in the kernel.
      skip: the map to concatenate at the fine size, or None.
      kernel: weights, computed in the dtype of `x`.
    """
    if _FOR_EVERY_PLATFORM.get():
        forms = {"cpu": _upsampled_on_cpu, "default": _upsampled_written_out}
        return lax.platform_dependent(x, skip, kernel, **forms)
    return (_upsampled_on_cpu if on_cpu() else _upsampled_written_out)(x, skip, kernel)


# Whether what is traced is lowered for several platforms.
_FOR_EVERY_PLATFORM = contextvars.ContextVar("for_every_platform", default=False)


@contextlib.contextmanager
def for_every_platform() -> Iterator[None]:
    """Traces, within it, the form of each platform beside the others, for `jax.export`.

    For forward passes: gradients would keep what every form needs.
    """
    token = _FOR_EVERY_PLATFORM.set(True)
    try:
        yield
    finally:
        _FOR_EVERY_PLATFORM.reset(token)


def _upsampled_written_out(x: jax.Array, skip: jax.Array | None, kernel: jax.Array) -> jax.Array:
    y = upsample_nearest(x)
    return conv2d(y if skip is None else jnp.concatenate([y, skip], axis=-1), kernel)


def _upsampled_on_cpu(x: jax.Array, skip: jax.Array | None, kernel: jax.Array) -> jax.Array:
    kernel, channels = kernel.astype(x.dtype), x.shape[-1]
    if skip is None:
        return _upsampled_products(x, kernel)
    # `split`, because the gradient of a slice is as large as what it was cut from.
    coarse, fine = lax.split(kernel, (channels, kernel.shape[2] - channels), axis=2)
    return _upsampled_products(x, coarse) + conv2d(skip, fine)


def on_cpu() -> bool:
    """Whether programs are compiled for CPU, whose fast forms are others."""
    return jax.default_backend() == "cpu"


def _only_on_cpu() -> bool:
    """The same, and not for others too: an exported program has the form of every platform."""
    return on_cpu() and not _FOR_EVERY_PLATFORM.get()


def _upsampled_products(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """3x3 convolution, padded by 1, of `x` up-sampled by 2: products, then shifts.

        y[m, n] = sum over a, c of (x k[a, c]) up-sampled [m + a - 1, n + c - 1]

    Added up in float32, as a convolution adds up.
    """

    def add_up(terms: list[jax.Array], axis: int) -> jax.Array:
        before, here, after = (jnp.repeat(term, 2, axis) for term in terms)
        return here + _shifted(before, 1, axis) + _shifted(after, -1, axis)

    taps = lax.split(kernel.reshape(9, *kernel.shape[2:]), (1,) * 9)
    products = [written_gradients.product(x, tap[0], jnp.float32) for tap in taps]
    rows = [add_up(products[a : a + 3], 2) for a in (0, 3, 6)]
    return add_up(rows, 1).astype(x.dtype)


def _shifted(x: jax.Array, by: int, axis: int) -> jax.Array:
    """Moved by one pixel along an axis; zero comes in, and what goes over the edge is lost."""
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (by, -by, 0)
    return lax.pad(x, np.zeros((), x.dtype), widths)


def conv_transpose_4x4_stride2(
    x: Float[Array, "b h w i"], kernel: Float[Array, "4 4 i o"]
) -> Float[Array, "b 2*h 2*w o"]:
    """Transposed convolution 4x4, stride 2.

    Every output row sees only two of the kernel's four rows, even rows the even ones and odd
    rows the odd ones (columns alike):

        y[2m]     = x[m-1] k[0] + x[m] k[2]
        y[2m + 1] = x[m] k[1] + x[m+1] k[3]

    The same numbers come from
      `lax.conv_transpose(x, kernel, (2, 2), "SAME")` (and `nnx.ConvTranspose`);
      `lax.conv_transpose(x, k, (2, 2), "SAME", transpose_kernel=True)` with
        `k = kernel[::-1, ::-1].swapaxes(2, 3)`, i.e. flipped and [4, 4, out, in];
      torch's `ConvTranspose2d(i, o, 4, stride=2, padding=1)` whose weight [in, out, 4, 4] is
        `kernel[::-1, ::-1].transpose(2, 3, 0, 1)`.

    The usual lowering (an input dilated with zeros, `lhs_dilation`) multiplies three zeros for
    each number. On a CPU that is four to six times slower than four interleaved convolutions,
    and where a kernel is larger than its maps it is not cut into four, which copies it:
    `written_gradients` has sixteen products. On an accelerator it is what cuDNN has a kernel
    for, if it is written as the gradient of a strided convolution.

    Args:
      x: images.
      kernel: weights, computed in the dtype of `x`.

    Reference: https://github.com/jax-ml/jax/issues/31662 (the slow lowering)
    """
    if _FOR_EVERY_PLATFORM.get():
        forms = {"cpu": conv_transpose_in_phases, "default": conv_transpose_as_gradient}
        return lax.platform_dependent(x, kernel, **forms)
    if not on_cpu():
        return conv_transpose_as_gradient(x, kernel)
    if written_gradients.kernel_is_larger(x, kernel):
        return written_gradients.conv_transpose_4x4_stride2(x, kernel.astype(x.dtype))
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

    That is written so that XLA takes it for one, and gives it to cuDNN whole; the same with the
    kernel as it is, dilated, is not recognised (jax 0.10; benchmarks/gpu_program.py).
    """
    batch, height, width, _ = x.shape
    flipped = jnp.flip(kernel.astype(x.dtype), (0, 1)).swapaxes(2, 3)  # [4, 4, o, i]
    shape = (batch, 2 * height, 2 * width, kernel.shape[-1])
    (y,) = jax.linear_transpose(
        lambda y: conv2d(y, flipped, stride=2, padding=((1, 1), (1, 1))),
        jax.ShapeDtypeStruct(shape, x.dtype),
    )(x)
    return y


def upsample_nearest(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Every pixel becomes 2x2 equal pixels."""
    batch, height, width, channels = x.shape
    y = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return y.reshape(batch, 2 * height, 2 * width, channels)


def max_pool_3x3_stride2(x: Float[Array, "b h w c"]) -> Float[Array, "b ho wo c"]:
    """Maximum over 3x3 windows, stride 2, one row and column of -inf on every side, as torch's.

    Written with comparisons of even and odd rows, then columns, because the gradient of
    `lax.reduce_window` (`select_and_scatter`) has no deterministic form on GPU, fails to compile
    under `--xla_gpu_exclude_nondeterministic_ops`, and is several times slower on CPU. As in
    torch the gradient goes to the first maximum of a window in row-major order, and NaN wins.
    """
    # Columns first, then rows: the first best column within each row, then the first best row.
    for axis in (2, 1):
        # An odd size gets one more -inf at the end, which no window would otherwise miss.
        x = _pad_axis(x, axis, (0, x.shape[axis] % 2))
        count = x.shape[axis] // 2
        pairs = x.reshape(*x.shape[:axis], count, 2, *x.shape[axis + 1 :])
        even, odd = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
        best = lax.slice_in_dim(_pad_axis(odd, axis, (1, 0)), 0, count, axis=axis)
        for other in (even, odd):
            best = jnp.where((other > best) | jnp.isnan(other), other, best)
        x = best
    return x


def _pad_axis(x: jax.Array, axis: int, before_after: tuple[int, int]) -> jax.Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = before_after
    return jnp.pad(x, widths, constant_values=-jnp.inf)


def pad_to_multiple(x: Float[Array, "b h w c"], multiple: int) -> Float[Array, "b hp wp c"]:
    """Pads at the bottom and the right to the next multiple, repeating the border pixels.

    Repeated rather than zero: in a z-scored slice the background is the slice's minimum and
    zero is the mean, so a frame of zeros would be a bright wall beside the head. The border of
    a skull-stripped slice is background, and repeating it continues that.
    """
    height, width = x.shape[1:3]
    return jnp.pad(x, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)), "edge")
