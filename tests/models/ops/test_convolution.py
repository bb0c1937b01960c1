"""Convolutions in the form of each platform beside XLA's."""

import jax.numpy as jnp
import pytest
from jax import export, jit
from vjps import assert_close, normal, primitives, value_and_vjp

from brats_jax.models.ops.convolution import conv2d, conv2d_plain, conv3x3_of_patches
from brats_jax.runtime import forms

each_platform = pytest.mark.parametrize("platform", ["cpu", "gpu"])


@each_platform
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_conv2d_and_its_gradients_are_xlas(platform, size, stride):
    x, kernel = normal(2, 7, 6, 3), normal(size, size, 3, 4, seed=1)
    g = normal(2, (7 + stride - 1) // stride, 6 // stride, 4, seed=2)
    plain = value_and_vjp(lambda *a: conv2d_plain(*a, stride=stride), g, x, kernel)
    with forms.traced_for(platform):
        ours = value_and_vjp(lambda *a: conv2d(*a, stride=stride), g, x, kernel)
    assert_close(ours, plain, atol=1e-4)


@each_platform
@pytest.mark.parametrize("height, width", [(2, 3), (1, 5), (4, 1)])
@pytest.mark.parametrize("size", [1, 3])
def test_small_maps_take_products_on_a_cpu(platform, height, width, size):
    x, kernel = normal(1, height, width, 24), normal(size, size, 24, 20, seed=1)
    g = normal(1, height, width, 20, seed=2)
    plain = value_and_vjp(conv2d_plain, g, x, kernel)
    with forms.traced_for(platform):
        assert_close(value_and_vjp(lambda *a: conv2d(*a), g, x, kernel), plain, atol=2e-4)
        convolved = "conv_general_dilated" in primitives(conv2d, x, kernel)
    assert convolved == (size > 1 and platform == "gpu")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch, height, width", [(1, 4, 4), (1, 5, 3), (2, 1, 6)])
def test_a_product_with_patches_is_the_convolution(batch, height, width, stride):
    x, kernel = normal(batch, height, width, 24), normal(3, 3, 24, 20, seed=1)
    g = normal(batch, -(-height // stride), -(-width // stride), 20, seed=2)

    def both(form):
        return value_and_vjp(lambda *a: form(*a, stride=stride), g, x, kernel)

    assert_close(both(conv3x3_of_patches), both(conv2d_plain), atol=2e-4)


@pytest.mark.parametrize(
    "pixels, stride, by_patches", [(23, 1, True), (24, 1, False), (46, 2, True), (47, 2, False)]
)
def test_patches_are_for_fewer_pixels_than_twice_the_outputs(pixels, stride, by_patches):
    x, kernel = normal(1, 1, pixels, 24), normal(3, 3, 24, 12)
    with forms.traced_for("cpu"):
        used = primitives(lambda *a: conv2d(*a, stride=stride), x, kernel)
    assert ("conv_general_dilated" in used) != by_patches


def test_a_program_for_several_platforms_convolves_small_maps():
    x, kernel = normal(1, 2, 2, 24), normal(3, 3, 24, 20, seed=1)
    with forms.traced_for(forms.EVERY):
        program = export.export(jit(lambda *a: conv2d(*a)), platforms=("cpu", "cuda"))(x, kernel)
    text = program.mlir_module()
    assert "stablehlo.convolution" in text and "stablehlo.dot_general" not in text


@pytest.mark.parametrize("size", [1, 3])
def test_bfloat16_is_rounded_once(size):
    shapes = (1, 1, 2, 32), (1, 1, 2, 32), (size, size, 32, 32)
    arrays = [jnp.asarray(normal(*s, seed=k), jnp.bfloat16) for k, s in enumerate(shapes)]
    with forms.traced_for("cpu"):
        got = value_and_vjp(lambda *a: conv2d(*a), *arrays)
    assert {a.dtype for a in got} == {jnp.dtype(jnp.bfloat16)}
    exact = value_and_vjp(conv2d_plain, *(a.astype(jnp.float32) for a in arrays))
    for a, e in zip(got, exact, strict=True):
        assert jnp.abs(a.astype(jnp.float32) - e).max() < 2**-8 * jnp.abs(e).max()
