"""Kernels rounded to the compute type before a step give the numbers of those rounded in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brats_jax import models
from brats_jax.models import ReconstructionModel, SegmentationModel
from brats_jax.runtime import forms


def test_kernels_of_the_encoder_are_rounded_and_those_of_the_head_are_not():
    params = {
        "encoder": {"conv1": {"kernel": jnp.full((1, 1, 2, 4), 1.001)}, "bn": jnp.ones(4)},
        "head": {"kernel": jnp.full((1, 1, 4, 1), 1.001)},
    }
    assert models.rounded_kernels(params, jnp.float32) == {}
    rounded = models.with_kernels(params, models.rounded_kernels(params, jnp.bfloat16))
    assert rounded["encoder"]["conv1"]["kernel"].dtype == jnp.bfloat16
    assert float(rounded["encoder"]["conv1"]["kernel"][0, 0, 0, 0]) == 1.0
    assert rounded["encoder"]["bn"].dtype == rounded["head"]["kernel"].dtype == jnp.float32
    assert float(rounded["head"]["kernel"][0, 0, 0, 0]) == np.float32(1.001)


@pytest.mark.parametrize("kind", [ReconstructionModel, SegmentationModel])
def test_the_kernels_of_all_layers_that_compute_in_bfloat16_are_rounded(kind):
    model = kind(2, width=4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    rounding = {
        jax.tree_util.keystr(tuple(map(jax.tree_util.DictKey, (*path, "kernel"))))
        for path, layer in nnx.iter_modules(model)
        if hasattr(layer, "kernel") and layer.dtype == jnp.bfloat16
    }
    _, params, _ = models.split(model)
    assert set(models.rounded_kernels(params, jnp.bfloat16)) == rounding and len(rounding) > 50


@pytest.mark.usefixtures("shallow")
def test_both_forms_give_the_same_bits(monkeypatch):
    model = ReconstructionModel(2, width=4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    graph, params, stats = models.split(model)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 32, 32, 2)), jnp.float32)

    def output(params):
        kernels = models.rounded_kernels(params, jnp.bfloat16)
        counts.append(len(kernels))
        weights = models.with_kernels(params, kernels)
        return models.apply(graph, weights, stats, x, train=True)[0]

    counts = []
    rounded_before = jax.jit(output)(params)
    monkeypatch.setenv(forms.VARIABLE, "rounded")
    rounded_within = jax.jit(lambda params: output(params))(params)  # traced once more
    assert counts[0] > 0 and counts[1:] == [0]
    np.testing.assert_array_equal(rounded_before, rounded_within)
