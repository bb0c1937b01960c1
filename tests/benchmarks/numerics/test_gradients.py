"""Errors of gradients in bfloat16."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_fusion import Pyramid

from benchmarks.numerics import gradients
from brats_jax import models, tasks
from brats_jax.models import unet


def test_errors_of_gradients_equal_those_by_hand():
    """Gradients (3, 4) and (3, -4) of two batches, both with an error of (0, 1) in bfloat16."""
    plain = jnp.array([[3.0, 4.0], [3.0, -4.0]])
    off = jnp.array([0.0, 1.0])
    found = gradients.compare((g, {"half": g + off, "other": g + 2 * off}) for g in plain)
    # Both have the norm 5; their mean (3, 0) has the norm 3, at a distance of 4 from each.
    assert found.noise == pytest.approx(4 / 5)
    once = {"error": 1 / 5, "bias": 1 / 3, "chance": 1 / 2**0.5 / 3}
    assert found.forms["half"] == pytest.approx(once)
    assert found.forms["other"] == pytest.approx({name: 2 * x for name, x in once.items()})


@pytest.mark.parametrize("form", gradients.FORMS)
@pytest.mark.parametrize("stage", gradients.STAGES)
def test_the_parts_of_a_form_are_parts_of_the_network(stage, form, shallow):
    model = nnx.eval_shape(lambda: gradients.STAGES[stage](width=4).build(0))
    names = {".".join(map(str, path)) for path, _ in nnx.iter_modules(model)}
    assert names.issuperset(gradients.FORMS[form].parts)


def test_forms_of_a_gradient_round_their_own_part(shallow, monkeypatch):
    """With all of the network but the head in float32, bfloat16 has no effect."""
    monkeypatch.setattr(unet, "UNetDecoder", Pyramid)
    task = tasks.Segmentation(width=4)
    _, params, stats = models.split(task.build(0))
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.normal(size=(2, 32, 32, 4)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 4, (2, 32, 32)), jnp.uint8),
        "seed": jnp.zeros(2, jnp.uint32),
    }

    def gradient(form):
        return np.asarray(gradients.gradient_of("segment", 4, form)(params, stats, batch))

    plain, parts = gradient(gradients.Form()), ("encoder", "decoder")
    np.testing.assert_array_equal(gradient(gradients.Form(jnp.bfloat16, parts)), plain)
    for name in ("images", "kernels", "stem"):
        assert np.abs(gradient(gradients.FORMS[name]) - plain).max() > 1e-3, name
