"""Convolutions of up-sampled maps in the form of each platform beside the textbook's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from vjps import assert_close, normal, value_and_vjp

from brats_jax.models.ops.convolution import conv2d_plain
from brats_jax.models.ops.upsampled_convolution import (
    conv2d_upsampled,
    conv2d_upsampled_on_coarse_map,
    conv2d_upsampled_plain,
    upsample_nearest,
)
from brats_jax.runtime import forms


def textbook(x, skip, kernel):
    y = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
    return conv2d_plain(y if skip is None else jnp.concatenate([y, skip], -1), kernel)


@pytest.mark.parametrize("form", [conv2d_upsampled_on_coarse_map, conv2d_upsampled_plain])
@pytest.mark.parametrize("skip_channels", [0, 5])
def test_it_is_upsample_concatenate_convolve(form, skip_channels):
    x, kernel = normal(2, 3, 4, 6), normal(3, 3, 6 + skip_channels, 4, seed=1)
    skip, g = normal(2, 6, 8, 5, seed=2), normal(2, 6, 8, 4, seed=3)

    def gradients(f):
        if skip_channels:
            return value_and_vjp(f, g, x, skip, kernel)
        return value_and_vjp(lambda x, kernel: f(x, None, kernel), g, x, kernel)

    assert_close(gradients(form), gradients(textbook), atol=1e-4)


@pytest.mark.parametrize("platform, products", [("cpu", 9), ("gpu", 0)])
def test_products_on_the_coarse_map_are_for_a_cpu(platform, products):
    x, skip, kernel = normal(2, 3, 4, 6), normal(2, 6, 8, 5, seed=2), normal(3, 3, 11, 4, seed=1)
    with forms.traced_for(platform):
        text = jax.jit(lambda *a: conv2d_upsampled(*a)).lower(x, skip, kernel).as_text()
    assert text.count("stablehlo.dot_general") == products


def test_a_program_for_several_platforms_holds_the_form_of_each():
    x, skip, kernel = normal(2, 3, 4, 6), normal(2, 6, 8, 5, seed=2), normal(3, 3, 11, 4, seed=1)

    def exported(*platforms):
        with forms.traced_for(forms.EVERY):
            f = jax.jit(lambda *a: conv2d_upsampled(*a))
            return export.export(f, platforms=platforms)(x, skip, kernel)

    products = [exported(p).mlir_module().count("stablehlo.dot_general") for p in ("cpu", "cuda")]
    assert products == [9, 0]
    both = exported("cpu", "cuda")
    np.testing.assert_array_equal(
        both.call(x, skip, kernel), jax.jit(conv2d_upsampled_on_coarse_map)(x, skip, kernel)
    )


def test_products_add_up_in_float32():
    """Nine large terms that cancel in bfloat16 would leave their rounding."""
    x, kernel = normal(1, 2, 2, 64).astype(jnp.bfloat16), normal(3, 3, 64, 4, seed=1)
    kernel = kernel.astype(jnp.bfloat16)
    got = conv2d_upsampled_on_coarse_map(jnp.asarray(x), None, jnp.asarray(kernel))
    expected = textbook(np.asarray(x, np.float32), None, np.asarray(kernel, np.float32))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(got, np.float32), expected, rtol=2**-8, atol=1e-6)


def test_nearest_upsampling_repeats_each_pixel():
    x = normal(2, 3, 5, 4)
    expected = x.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(upsample_nearest(jnp.asarray(x)), expected)
