"""Transposed convolutions: every form beside torch's stored numbers and XLA's."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from vjps import assert_close, normal, primitives, value_and_vjp

from brats_jax.models.ops.transposed_convolution import (
    conv_transpose_4x4_stride2,
    conv_transpose_as_gradient,
    conv_transpose_as_products,
    conv_transpose_in_phases,
    conv_transpose_plain,
)
from brats_jax.runtime import forms

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "torch_models.npz")
FORMS = (
    conv_transpose_plain,
    conv_transpose_in_phases,
    conv_transpose_as_gradient,
    conv_transpose_as_products,
)
each_form = pytest.mark.parametrize("form", FORMS)


@each_form
def test_every_form_and_its_gradients_are_torchs(form):
    x, weight, g = (GOLDEN[f"transposed/{n}"] for n in ("x", "weight", "g"))
    kernel = weight.transpose(2, 3, 0, 1)[::-1, ::-1]
    y, dx, dkernel = value_and_vjp(form, g, x, kernel)
    dweight = dkernel[::-1, ::-1].transpose(2, 3, 0, 1)
    expected = (GOLDEN[f"transposed/{n}"] for n in ("y", "dx", "dweight"))
    assert_close((y, dx, dweight), expected, atol=1e-4)


@each_form
@pytest.mark.parametrize("height, width", [(4, 4), (1, 5), (3, 2)])
def test_every_form_is_xlas_in_both_conventions(form, height, width):
    x, kernel = normal(2, height, width, 6), normal(4, 4, 6, 5, seed=1)
    g = normal(2, 2 * height, 2 * width, 5, seed=2)

    def dilated(x, kernel):
        return lax.conv_transpose(x, kernel, (2, 2), "SAME")

    def dilated_flipped(x, kernel):
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)
        return lax.conv_transpose(x, flipped, (2, 2), "SAME", transpose_kernel=True)

    actual = value_and_vjp(form, g, x, kernel)
    for xlas in (dilated, dilated_flipped):
        assert_close(actual, value_and_vjp(xlas, g, x, kernel), atol=1e-4)


@pytest.mark.parametrize("pixels, products", [(7, True), (8, False)])
def test_products_are_for_maps_smaller_than_a_tap_of_the_kernel(pixels, products):
    kernel = normal(4, 4, 24, 12)  # a tap has as many numbers as the products with 8 pixels
    with forms.traced_for("cpu"):
        used = primitives(conv_transpose_4x4_stride2, normal(1, 1, pixels, 24), kernel)
    assert ("conv_general_dilated" in used) != products


def test_a_program_for_several_platforms_holds_two_forms():
    x, kernel = normal(2, 8, 8, 6), normal(4, 4, 6, 5, seed=1)

    def exported(*platforms):
        with forms.traced_for(forms.EVERY):
            f = jax.jit(lambda *a: conv_transpose_4x4_stride2(*a))
            return export.export(f, platforms=platforms)(x, kernel)

    counts = [exported(p).mlir_module().count("stablehlo.convolution") for p in ("cpu", "cuda")]
    assert counts == [4, 1]
    got = exported("cpu", "cuda").call(x, kernel)
    np.testing.assert_array_equal(got, jax.jit(conv_transpose_in_phases)(x, kernel))


def test_a_program_for_several_platforms_convolves_small_maps():
    x, kernel = normal(1, 2, 2, 24), normal(4, 4, 24, 20, seed=1)
    with forms.traced_for(forms.EVERY):
        f = jax.jit(lambda *a: conv_transpose_4x4_stride2(*a))
        text = export.export(f, platforms=("cpu", "cuda"))(x, kernel).mlir_module()
    assert "stablehlo.convolution" in text and "stablehlo.dot_general" not in text


def test_products_in_bfloat16_are_rounded_once():
    shapes = (1, 2, 4, 32), (1, 1, 2, 32), (4, 4, 32, 32)
    arrays = [jnp.asarray(normal(*s, seed=k), jnp.bfloat16) for k, s in enumerate(shapes)]
    got = value_and_vjp(conv_transpose_as_products, *arrays)
    assert {a.dtype for a in got} == {jnp.dtype(jnp.bfloat16)}
    exact = value_and_vjp(conv_transpose_plain, *(a.astype(jnp.float32) for a in arrays))
    for a, e in zip(got, exact, strict=True):
        assert jnp.abs(a.astype(jnp.float32) - e).max() < 2**-8 * jnp.abs(e).max()
