"""Single operations against torch's stored numbers, XLA's own forms and plain formulae."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from vjps import assert_close, normal, value_and_vjp

from brats_jax.models.ops import operations

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "torch_models.npz")


def plain_conv(x, kernel, stride=1):
    pad = (kernel.shape[0] - 1) // 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_conv2d_with_its_products_is_the_convolution(monkeypatch, on_cpu, size, stride):
    monkeypatch.setattr(operations, "on_cpu", lambda: on_cpu)
    x, kernel = normal(2, 7, 6, 3), normal(size, size, 3, 4, seed=1)
    g = normal(2, (7 + stride - 1) // stride, 6 // stride, 4, seed=2)

    def form(x, kernel):
        return operations.conv2d(x, kernel, stride=stride)

    def written_out(x, kernel):
        return plain_conv(x, kernel, stride)

    ours = value_and_vjp(form, g, x, kernel)
    assert_close(ours, value_and_vjp(written_out, g, x, kernel), atol=1e-4)


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("skip_channels", [0, 5])
def test_convolution_of_an_upsampled_map_is_written_out(monkeypatch, on_cpu, skip_channels):
    """In both forms, with the gradients of maps and kernel."""
    monkeypatch.setattr(operations, "on_cpu", lambda: on_cpu)
    x, kernel = normal(2, 3, 4, 6), normal(3, 3, 6 + skip_channels, 4, seed=1)
    skip, g = normal(2, 6, 8, 5, seed=2), normal(2, 6, 8, 4, seed=3)

    def form(f):
        if skip_channels:
            return value_and_vjp(f, g, x, skip, kernel)
        return value_and_vjp(lambda x, kernel: f(x, None, kernel), g, x, kernel)

    def written_out(x, skip, kernel):
        y = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
        return plain_conv(y if skip is None else jnp.concatenate([y, skip], -1), kernel, 1)

    assert_close(form(operations.conv2d_upsampled), form(written_out), atol=1e-4)


def test_a_program_for_several_platforms_holds_the_form_of_each():
    x, skip, kernel = normal(2, 3, 4, 6), normal(2, 6, 8, 5, seed=2), normal(3, 3, 11, 4, seed=1)

    def exported(*platforms):
        with operations.for_every_platform():
            f = jax.jit(lambda *a: operations.conv2d_upsampled(*a))
            return export.export(f, platforms=platforms)(x, skip, kernel)

    products = [exported(p).mlir_module().count("stablehlo.dot_general") for p in ("cpu", "cuda")]
    assert products == [9, 0]
    both = exported("cpu", "cuda")
    np.testing.assert_array_equal(
        both.call(x, skip, kernel), jax.jit(operations.conv2d_upsampled)(x, skip, kernel)
    )


def test_a_program_for_several_platforms_holds_both_transposed_convolutions():
    x, kernel = normal(2, 8, 8, 6), normal(4, 4, 6, 5, seed=1)

    def exported(*platforms):
        with operations.for_every_platform():
            f = jax.jit(lambda *a: operations.conv_transpose_4x4_stride2(*a))
            return export.export(f, platforms=platforms)(x, kernel)

    counts = [exported(p).mlir_module().count("stablehlo.convolution") for p in ("cpu", "cuda")]
    assert counts == [4, 1]
    got = exported("cpu", "cuda").call(x, kernel)
    expected = jax.jit(operations.conv_transpose_in_phases)(x, kernel)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("form", "size"), [(operations.conv2d, 3), (operations.conv_transpose_4x4_stride2, 4)]
)
def test_a_program_for_several_platforms_has_convolutions_of_maps_of_few_pixels(form, size):
    x, kernel = normal(1, 2, 2, 24), normal(size, size, 24, 20, seed=1)
    with operations.for_every_platform():
        f = jax.jit(lambda *a: form(*a))
        text = export.export(f, platforms=("cpu", "cuda"))(x, kernel).mlir_module()
    assert "stablehlo.convolution" in text and "stablehlo.dot_general" not in text


def test_products_add_up_in_float32():
    """Nine large terms that cancel in bfloat16 would leave their rounding."""
    x, kernel = normal(1, 2, 2, 64).astype(jnp.bfloat16), normal(3, 3, 64, 4, seed=1)
    kernel = kernel.astype(jnp.bfloat16)
    got = operations.conv2d_upsampled(jnp.asarray(x), None, jnp.asarray(kernel))
    wide = np.repeat(np.repeat(np.asarray(x, np.float32), 2, 1), 2, 2)
    expected = plain_conv(wide, np.asarray(kernel, np.float32), 1)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(got, np.float32), expected, rtol=2**-8, atol=1e-6)


def primitives(f, *arguments):
    """Names of the operations that compute f and its gradients, those of inner functions too."""

    def names(jaxpr):
        for equation in jaxpr.eqns:
            inner = [p for p in equation.params.values() if hasattr(p, "jaxpr")]
            yield from (name for closed in inner for name in names(closed.jaxpr))
            yield equation.primitive.name

    def run(*arguments):
        y, vjp = jax.vjp(f, *arguments)
        return vjp(y)

    return set(names(jax.make_jaxpr(run)(*arguments).jaxpr))


def conv_transpose(x, kernel):
    return lax.conv_transpose(x, kernel, (2, 2), "SAME")


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("height, width", [(2, 3), (1, 5), (4, 1)])
@pytest.mark.parametrize(
    "form, size, written_out",
    [
        (operations.conv2d, 1, plain_conv),
        (operations.conv2d, 3, plain_conv),
        (operations.conv_transpose_4x4_stride2, 4, conv_transpose),
    ],
)
def test_written_gradients_are_the_derived_ones(
    monkeypatch, on_cpu, height, width, form, size, written_out
):
    """Of maps with so few pixels that 3x3 and 4x4 kernels take products on CPU."""
    monkeypatch.setattr(operations, "on_cpu", lambda: on_cpu)
    x, kernel = normal(1, height, width, 24), normal(size, size, 24, 20, seed=1)
    stride = 2 if size == 4 else 1
    g = normal(1, stride * height, stride * width, 20, seed=2)
    ours = value_and_vjp(form, g, x, kernel)
    assert_close(ours, value_and_vjp(written_out, g, x, kernel), atol=2e-4)
    used = primitives(form, x, kernel)
    assert ("conv_general_dilated" in used) == (size > 1 and not on_cpu)
    assert ("optimization_barrier" in used) == (size == 4 and on_cpu)


@pytest.mark.parametrize("batch, height, width", [(1, 4, 4), (1, 5, 3), (2, 1, 6)])
def test_small_maps_take_products_with_stride_2_too(monkeypatch, batch, height, width):
    monkeypatch.setattr(operations, "on_cpu", lambda: True)

    def form(x, kernel):
        return operations.conv2d(x, kernel, stride=2)

    def written_out(x, kernel):
        return plain_conv(x, kernel, 2)

    x, kernel = normal(batch, height, width, 24), normal(3, 3, 24, 20, seed=1)
    g = normal(batch, (height + 1) // 2, (width + 1) // 2, 20, seed=2)
    ours = value_and_vjp(form, g, x, kernel)
    assert_close(ours, value_and_vjp(written_out, g, x, kernel), atol=2e-4)
    assert "conv_general_dilated" not in primitives(form, x, kernel)


def test_products_are_left_to_maps_smaller_than_their_kernels(monkeypatch):
    monkeypatch.setattr(operations, "on_cpu", lambda: True)
    kernel = normal(3, 3, 24, 12)  # patches of fewer pixels than twice 12 outputs
    for pixels, stride, product in ((23, 1, True), (24, 1, False), (46, 2, True), (47, 2, False)):

        def form(x, kernel, stride=stride):
            return operations.conv2d(x, kernel, stride=stride)

        used = primitives(form, normal(1, 1, pixels, 24), kernel)
        assert ("conv_general_dilated" in used) != product
    kernel = normal(4, 4, 24, 12)  # as large as the products with 8 pixels
    for pixels, product in ((7, True), (8, False)):
        used = primitives(operations.conv_transpose_4x4_stride2, normal(1, 1, pixels, 24), kernel)
        assert ("conv_general_dilated" in used) != product


@pytest.mark.parametrize("size", [1, 3, 4])
def test_written_gradients_in_bfloat16_add_up_in_float32(size):
    """16 maps of 2 pixels: rounded once, not after every tap."""
    form = operations.conv_transpose_4x4_stride2 if size == 4 else operations.conv2d
    stride = 2 if size == 4 else 1
    shapes = (1, stride, 2 * stride, 32), (1, 1, 2, 32), (size, size, 32, 32)
    arrays = [jnp.asarray(normal(*s, seed=k), jnp.bfloat16) for k, s in enumerate(shapes)]
    got = value_and_vjp(form, *arrays)
    assert {a.dtype for a in got} == {jnp.dtype(jnp.bfloat16)}
    exact = value_and_vjp(form, *(a.astype(jnp.float32) for a in arrays))
    for a, e in zip(got, exact, strict=True):
        assert jnp.abs(a.astype(jnp.float32) - e).max() < 2**-8 * jnp.abs(e).max()


@pytest.mark.parametrize("on_cpu", [True, False])
def test_transposed_convolution_is_torchs(monkeypatch, on_cpu):
    monkeypatch.setattr(operations, "on_cpu", lambda: on_cpu)
    x, weight, g = (GOLDEN[f"transposed/{n}"] for n in ("x", "weight", "g"))
    kernel = weight.transpose(2, 3, 0, 1)[::-1, ::-1]
    y, dx, dkernel = value_and_vjp(operations.conv_transpose_4x4_stride2, g, x, kernel)
    dweight = dkernel[::-1, ::-1].transpose(2, 3, 0, 1)
    expected = (GOLDEN[f"transposed/{n}"] for n in ("y", "dx", "dweight"))
    assert_close((y, dx, dweight), expected, atol=1e-4)


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("height, width", [(4, 4), (1, 5), (3, 2)])
def test_transposed_convolution_is_xlas_in_both_conventions(monkeypatch, height, width, on_cpu):
    monkeypatch.setattr(operations, "on_cpu", lambda: on_cpu)
    x, kernel = normal(2, height, width, 6), normal(4, 4, 6, 5, seed=1)
    g = normal(2, 2 * height, 2 * width, 5, seed=2)

    def dilated(x, kernel):
        return lax.conv_transpose(x, kernel, (2, 2), "SAME")

    def dilated_flipped(x, kernel):
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)
        return lax.conv_transpose(x, flipped, (2, 2), "SAME", transpose_kernel=True)

    actual = value_and_vjp(operations.conv_transpose_4x4_stride2, g, x, kernel)
    for form in (dilated, dilated_flipped):
        assert_close(actual, value_and_vjp(form, g, x, kernel), atol=1e-4)


def test_nearest_upsampling_repeats_each_pixel():
    x = normal(2, 3, 5, 4)
    expected = x.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(operations.upsample_nearest(jnp.asarray(x)), expected)


@pytest.mark.parametrize("size", ["8x8", "7x5", "1x6"])
def test_max_pool_and_its_gradient_among_ties_are_torchs(size):
    x, y, g, dx = (GOLDEN[f"pool/{size}/{n}"] for n in ("x", "y", "g", "dx"))
    actual = value_and_vjp(operations.max_pool_3x3_stride2, g, x)
    assert_close(actual, (y, dx), atol=1e-6)


def test_max_pool_keeps_nan_and_negative_values():
    x = np.full((1, 4, 4, 1), -5.0, np.float32)
    x[0, 1, 1] = np.nan
    y = operations.max_pool_3x3_stride2(jnp.asarray(x))[0, :, :, 0]
    # Pixel (1, 1) is in all four windows: rows and columns -1..1 and 1..3.
    assert np.isnan(y).all()
    x[0, 1, 1], x[0, 0, 3] = -5, np.nan
    y = operations.max_pool_3x3_stride2(jnp.asarray(x))[0, :, :, 0]
    np.testing.assert_array_equal(y, [[-5, np.nan], [-5, -5]])


def test_padding_repeats_the_border_at_the_bottom_and_the_right():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    padded = operations.pad_to_multiple(x, 4)[0, :, :, 0]
    np.testing.assert_array_equal(padded, [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]])
    assert operations.pad_to_multiple(x, 1).shape == x.shape
