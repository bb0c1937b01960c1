"""Compares each hand-written operation with another implementation of the same operation.

    python benchmarks/forms.py --batch=4              # forward and backward, width 64, 128 x 128

The printed ratio is the time of the implementation in use over the time of the other one; below 1
the one in use is faster. Where CPUs and accelerators use different implementations, the other one
is that of the other kind of device. Each pair is checked for equality in float32, then timed in
the compute type of training: float32 on a CPU, bfloat16 on an accelerator. forms_in_step.py
measures a whole step without each form.
"""

import argparse
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import measure
from brats_jax.models import ops
from brats_jax.models.ops.batch_norm import batch_norm_plain
from brats_jax.models.ops.convolution import DIMENSION_NUMBERS, conv2d_plain, conv3x3_of_patches
from brats_jax.models.ops.max_pool import max_pool_3x3_stride2_plain
from brats_jax.models.ops.product import product, product_plain
from brats_jax.models.ops.transposed_convolution import (
    conv_transpose_as_gradient,
    conv_transpose_as_products,
    conv_transpose_in_phases,
    conv_transpose_plain,
)
from brats_jax.models.ops.upsampled_convolution import (
    conv2d_upsampled_on_coarse_map,
    conv2d_upsampled_plain,
)
from brats_jax.runtime import devices, forms

FORM = measure.Record("form *", ratio=measure.Spread, text=str)
Form = Callable[..., jax.Array]


class Pair(NamedTuple):
    """The implementation in use, another one, and their arguments."""

    name: str
    ours: Form
    other: Form
    arguments: tuple[jax.Array, ...]
    needs_input_gradient: bool = True


def space_to_depth(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution of stride 2 and odd size as one of stride 1 on 2 x 2 blocks of pixels."""
    b, h, w, c = x.shape
    size = kernel.shape[0]
    # y[i] = sum over k of x[2 i + k - (size - 1) / 2]: one zero pads the kernel to an even size.
    before = (size - 1) // 2 % 2
    kernel = jnp.pad(kernel, ((before, 1 - before),) * 2 + ((0, 0),) * 2)
    half = (size + 1) // 2
    y = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(b, h // 2, w // 2, 4 * c)
    k = kernel.reshape(half, 2, half, 2, c, -1).transpose(0, 2, 1, 3, 4, 5)
    k = k.reshape(half, half, 4 * c, -1)
    first = ((size - 1) // 2 + before) // 2
    pad = (first, half - 1 - first)
    return lax.conv_general_dilated(y, k, (1, 1), (pad, pad), dimension_numbers=DIMENSION_NUMBERS)


def as_convolution(form: Form) -> Form:
    """A matrix product, called with the kernel [1, 1, i, o] of a 1x1 convolution."""
    return lambda x, kernel: form(x, kernel[0, 0])


def with_skip(form: Form) -> Form:
    """An up-sampled convolution, called with or without a skip map."""

    def call(x: jax.Array, *rest: jax.Array) -> jax.Array:
        *skip, kernel = rest
        return form(x, skip[0] if skip else None, kernel)

    return call


def not_in_use(on_cpu: Form, elsewhere: Form) -> Form:
    """The one of two implementations that this device does not use."""
    return elsewhere if forms.on_cpu() else on_cpu


def pairs(batch: int, width: int) -> Iterator[Pair]:
    """All pairs to compare, at the sizes of a 128 x 128 patch."""
    rng = np.random.default_rng(0)

    def maps(size: int, channels: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal((batch, size, size, channels)), jnp.float32)

    def kernel(size: int, inputs: int, outputs: int) -> jax.Array:
        k = rng.standard_normal((size, size, inputs, outputs)) / (size * np.sqrt(inputs))
        return jnp.asarray(k, jnp.float32)

    strided = functools.partial(ops.conv2d, stride=2)
    plain = {n: functools.partial(conv2d_plain, stride=n) for n in (1, 2)}
    w = width
    stem, down = (maps(128, 4), kernel(7, 4, w)), (maps(32, 2 * w), kernel(3, 2 * w, 2 * w))
    yield Pair("stem 7x7/2: plain, space to depth", strided, space_to_depth, stem, False)
    yield Pair("3x3/2, 32: plain, space to depth", strided, space_to_depth, down)
    same = (maps(8, 4 * w), kernel(1, 4 * w, 16 * w))
    yield Pair("1x1, 8: product, convolution", ops.conv2d, plain[1], same)
    wide = (maps(32, w), kernel(1, w, 4 * w))
    other = not_in_use(as_convolution(product), as_convolution(product_plain))
    yield Pair("1x1, 32: gradients in use, other", ops.conv2d, other, wide)
    for size, side in ((4, 4), (8, 8), (16, 8)):  # 512, 256, 256 channels at width 64
        channels = 32 * w // side
        deep = (maps(size, channels), kernel(3, channels, channels))
        stride = size // side
        form = {1: ops.conv2d, 2: strided}[stride]
        patches = functools.partial(conv3x3_of_patches, stride=stride)
        other = not_in_use(patches, plain[stride])
        yield Pair(f"3x3/{stride}, {size}: in use, other", form, other, deep)
    short = (maps(32, 4 * w), kernel(1, 4 * w, 8 * w))
    yield Pair("1x1/2, 32: cut and product, convolution", strided, plain[2], short)
    transpose, phases = ops.conv_transpose_4x4_stride2, conv_transpose_in_phases
    for size, inputs, outputs in ((4, 32 * w, 4 * w), (64, w // 2, w // 4)):
        arguments = (maps(size, inputs), kernel(4, inputs, outputs))
        yield Pair(
            f"transposed 4x4, {size}: in use, zeros", transpose, conv_transpose_plain, arguments
        )
        on_cpu = conv_transpose_as_products if size == 4 else phases
        other = not_in_use(on_cpu, conv_transpose_as_gradient)
        yield Pair(f"transposed 4x4, {size}: in use, other", transpose, other, arguments)
    arguments = (maps(4, 32 * w), kernel(4, 32 * w, 4 * w))
    yield Pair("transposed 4x4, 4: in use, phases", transpose, phases, arguments)
    for size, inputs, skips, outputs in (
        (4, 32 * w, 16 * w, 4 * w),
        (8, 4 * w, 8 * w, 2 * w),
        (16, 2 * w, 4 * w, w),
        (32, w, w, w // 2),
        (64, w // 2, 0, w // 4),
    ):
        skip = (maps(2 * size, skips),) if skips else ()
        arguments = (maps(size, inputs), *skip, kernel(3, inputs + skips, outputs))
        other = not_in_use(
            with_skip(conv2d_upsampled_on_coarse_map), with_skip(conv2d_upsampled_plain)
        )
        ours = with_skip(ops.conv2d_upsampled)
        yield Pair(f"up-sampled 3x3, {size}: in use, other", ours, other, arguments)
    pools = ops.max_pool_3x3_stride2, max_pool_3x3_stride2_plain
    yield Pair("pooling, 64: comparisons, reduce_window", *pools, (maps(64, w),))
    yield Pair(
        "normalisation, 32: written gradient, derived",
        lambda *a: ops.batch_norm(*a)[0],
        lambda *a: batch_norm_plain(*a)[0],
        (maps(32, 4 * w), jnp.ones(4 * w), jnp.zeros(4 * w)),
    )


def with_gradients(form: Form, pair: Pair) -> Callable[[], list[jax.Array]]:
    """A compiled call of the operation and its gradients."""
    arguments, first = pair.arguments, 0 if pair.needs_input_gradient else 1
    result = jax.eval_shape(form, *arguments)
    drawn = np.random.default_rng(1).standard_normal(result.shape)
    cotangent = jnp.asarray(drawn, result.dtype)

    @jax.jit
    def run(cotangent: jax.Array, *arguments: jax.Array) -> list[jax.Array]:
        y, vjp = jax.vjp(lambda *rest: form(*arguments[:first], *rest), *arguments[first:])
        return [y, *vjp(cotangent)]

    return lambda: run(cotangent, *arguments)


def _in(dtype: Any, array: jax.Array) -> jax.Array:
    # Scale and bias of BatchNorm stay in float32.
    return array if array.ndim == 1 else array.astype(dtype)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--turns", type=int, default=9)
    return parser


def main() -> None:
    """Checks and times every pair, and prints the ratios."""
    options = parser().parse_args()
    devices.keep_freed_memory()  # as training does
    dtype = devices.compute_dtype("auto")
    for pair in pairs(options.batch, options.width):
        with jax.default_matmul_precision("highest"):  # a GPU would round to TF32
            checked = [with_gradients(form, pair)() for form in (pair.ours, pair.other)]
        for ours, other in zip(*checked, strict=True):
            largest = float(jnp.abs(other).max())
            np.testing.assert_allclose(ours, other, atol=1e-4 * largest, rtol=0)
        rounded = pair._replace(arguments=tuple(_in(dtype, a) for a in pair.arguments))
        calls = {n: with_gradients(getattr(pair, n), rounded) for n in ("ours", "other")}
        seconds = measure.time_alternately(calls, options.turns)
        ratio = measure.ratio(seconds["ours"], seconds["other"])
        spread = ratio.show(digits=2)
        FORM.keep(f"form {pair.name}", ratio=ratio, text=spread)
        ours, other = (1e3 * np.median(seconds[name]) for name in ("ours", "other"))
        print(f"{pair.name}: {spread}; {ours:.1f} and {other:.1f} ms", flush=True)
    print(measure.where())


if __name__ == "__main__":
    main()
