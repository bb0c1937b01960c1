"""The switch between fast and plain forms, and the platform that forms are traced for."""

import jax
import jax.numpy as jnp
import pytest

from brats_jax import models
from brats_jax.errors import BratsError
from brats_jax.runtime import forms
from brats_jax.tasks import Pretraining, Segmentation


@pytest.mark.parametrize(
    "value, plain",
    [
        (None, set()),
        ("", set()),
        ("0", set()),
        ("1", set(forms.FORMS)),
        ("max_pool,ssim", {"max_pool", "ssim"}),
    ],
)
def test_the_environment_selects_plain_forms(value, plain, monkeypatch):
    monkeypatch.delenv(forms.VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(forms.VARIABLE, value)
    assert {name for name in forms.FORMS if forms.plain(name)} == plain


def test_unknown_forms_are_refused_with_the_valid_ones(monkeypatch):
    monkeypatch.setenv(forms.VARIABLE, "max_pool,pool")
    with pytest.raises(BratsError, match=r"unknown form 'pool'.*max_pool,batch_norm"):
        forms.plain("max_pool")


def test_forms_are_those_of_the_platform_that_is_traced_for():
    def choose(x):
        return forms.by_platform(x, cpu=lambda x: x + 1, default=lambda x: x + 2)

    assert forms.on_cpu() and choose(1) == 2
    with forms.traced_for("gpu"):
        assert not forms.on_cpu() and choose(1) == 3
    with forms.traced_for(forms.EVERY):
        assert not forms.on_cpu() and jax.jit(choose)(jnp.ones(())) == 2
    assert forms.on_cpu()


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("task", [Segmentation(width=4), Pretraining(width=4)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_plain_forms_of_a_network_are_convolutions_with_derived_gradients(
    task, dtype, monkeypatch
):
    """No product, written gradient or barrier is left under BRATS_JAX_PLAIN=1."""
    graph, params, stats = models.split(task.computing_in(dtype).build(0))
    x = jnp.zeros((1, 32, 32, len(task.inputs)))

    def program():
        def loss(params):
            y, stats_after = models.apply(graph, params, stats, x, train=True)
            return y.sum(), stats_after

        return str(jax.make_jaxpr(jax.grad(loss, has_aux=True))(params))

    written = ("dot_general", "custom_vjp", "optimization_barrier")
    assert any(name in program() for name in written)
    monkeypatch.setenv(forms.VARIABLE, "1")
    plain = program()
    assert not [name for name in written if name in plain]
    assert "conv_general_dilated" in plain and "reduce_window" in plain
