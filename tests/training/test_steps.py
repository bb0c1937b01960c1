"""The compiled training step: what it is made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType

from brats_jax import models
from brats_jax.data.modalities import channel_indices
from brats_jax.models import resnet
from brats_jax.models.layers import BatchNorm, Conv
from brats_jax.models.ops.max_pool import max_pool_3x3_stride2_plain
from brats_jax.runtime import devices, forms
from brats_jax.tasks import Pretraining, Segmentation
from brats_jax.training.optim import adam
from brats_jax.training.steps import TrainState, make_train_step


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("task", [Pretraining, Segmentation])
def test_no_operation_of_the_step_lacks_a_deterministic_form(task, on_cpu, monkeypatch):
    """On GPU, `select_and_scatter` (a max-pool's usual gradient) adds up in any order.

    A step as CPUs train; and three in a dispatch in the forms and the type of accelerators.
    """
    monkeypatch.setattr(resnet, "BLOCKS", (1, 1, 1, 1))
    task = task(width=4, dtype=jnp.float32 if on_cpu else jnp.bfloat16)
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1], axis_types=(AxisType.Auto,))
    graph, params, stats = models.split(task.build(0))
    optimizer = adam(lambda step: 1e-3)
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(params, stats, optimizer.init(params), zero, jnp.zeros(()), zero)
    several = () if on_cpu else (3,)
    batch = {
        "image": jnp.zeros((*several, 2, 32, 32, 4), jnp.float16),
        "label": jnp.zeros((*several, 2, 32, 32), jnp.uint8),
        "seed": jnp.zeros((*several, 2), jnp.uint32),
    }
    step = make_train_step(task, graph, optimizer, mesh)
    with forms.traced_for("cpu" if on_cpu else "gpu"):
        text = step.lower(state, batch).as_text()
    assert "stablehlo.convolution" in text and ("stablehlo.while" in text) != on_cpu
    for name in ("scatter", "sort"):  # select_and_scatter too
        assert f"stablehlo.{name}" not in text
    assert "select_and_scatter" not in text
    # It would be found if it were there.
    x = jnp.zeros((1, 4, 4, 1))
    plain = jax.grad(lambda x: max_pool_3x3_stride2_plain(x).sum())
    text = jax.jit(plain).lower(x).as_text()
    assert "select_and_scatter" in text


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_is_asked_for_the_same_bits_in_every_run(deterministic, monkeypatch):
    """The compiler gets what devices.compiler_options says: here an option that it refuses."""
    asked = []

    def options(mesh, *, deterministic):
        asked.append(deterministic)
        return {"xla_no_such_option": True}

    monkeypatch.setattr(devices, "compiler_options", options)
    step, state = begin(LittleTask(), adam(lambda step: 1e-3), deterministic=deterministic)
    with pytest.raises(RuntimeError, match="xla_no_such_option"):
        step(state, little_batch())
    assert asked == [deterministic]


class Little(nnx.Module):
    """1x1 convolutions in bfloat16 and a head in float32, which compile in a moment."""

    def __init__(self, rngs):
        self.encoder = Conv(2, 8, 1, dtype=jnp.bfloat16, rngs=rngs)
        self.bn = BatchNorm(8, dtype=jnp.bfloat16)
        self.head = Conv(8, 1, 1, use_bias=True, rngs=rngs)

    def __call__(self, x, *, train):
        return self.head(self.bn(self.encoder(x), relu=True, train=train))


@dataclasses.dataclass(frozen=True)
class LittleTask(Pretraining):
    dtype: type = jnp.bfloat16

    def build(self, seed):
        return Little(nnx.Rngs(seed))


@jax.custom_vjp
def spoilt(x, bad):
    """`x`, whose gradient is not finite where it is `bad`."""
    return x


spoilt.defvjp(lambda x, bad: (x, bad), lambda bad, g: (jnp.where(bad, jnp.nan, g), None))


@dataclasses.dataclass(frozen=True)
class SpoiltTask(LittleTask):
    """A bright first pixel spoils the gradient, not the loss."""

    def loss(self, output, target):
        return super().loss(spoilt(output, target[0, 0, 0, 0] > 50), target)


def begin(task, optimizer, **options):
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1], axis_types=(AxisType.Auto,))
    graph, params, stats = models.split(task.build(0))
    counters = (jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.full((), -1, jnp.int32))
    state = TrainState(params, stats, optimizer.init(params), *counters)
    state = jax.device_put(state, devices.replicated_sharding(mesh))
    return make_train_step(task, graph, optimizer, mesh, **options), state


def little_batch(*lead):
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.standard_normal((*lead, 2, 8, 8, 4)), jnp.float16),
        "label": jnp.zeros((*lead, 2, 8, 8), jnp.uint8),
        "seed": jnp.zeros((*lead, 2), jnp.uint32),
    }


@pytest.mark.parametrize("lead", [(), (3,)], ids=["one step", "three in a dispatch"])
def test_kernels_rounded_before_the_step_give_the_bits_of_kernels_rounded_in_it(lead, monkeypatch):
    def after():
        step, state = begin(LittleTask(), adam(lambda step: 1e-2))
        return jax.tree.leaves(step(state, little_batch(*lead))[0])

    before_the_step = after()
    monkeypatch.setattr(models, "rounded_kernels", lambda params, dtype: {})
    for ours, plain in zip(before_the_step, after(), strict=True):
        np.testing.assert_array_equal(ours, plain)


def test_kernels_are_rounded_where_the_network_computes_with_them():
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


@pytest.mark.parametrize("kind", [Pretraining, Segmentation])
def test_kernels_that_are_rounded_are_those_of_the_layers_that_round_theirs(kind):
    model = kind(width=4, dtype=jnp.bfloat16).build(0)
    rounding = {
        jax.tree_util.keystr(tuple(map(jax.tree_util.DictKey, (*path, "kernel"))))
        for path, layer in nnx.iter_modules(model)
        if hasattr(layer, "kernel") and layer.dtype == jnp.bfloat16
    }
    _, params, _ = models.split(model)
    assert set(models.rounded_kernels(params, jnp.bfloat16)) == rounding and len(rounding) > 50


@pytest.mark.parametrize("lead", [(), (3,)], ids=["one step", "three in a dispatch"])
def test_steps_that_are_finite_have_no_first_bad_one(lead):
    step, state = begin(LittleTask(), adam(lambda step: 1e-2))
    assert int(step(state, little_batch(*lead))[1].bad_step) == -1


@pytest.mark.parametrize("lead", [(), (3,)], ids=["one step", "three in a dispatch"])
def test_an_update_that_overflows_is_found_at_the_end_of_its_dispatch(lead):
    """The loss and the gradients are finite; of three steps the second has what came of it."""
    step, state = begin(LittleTask(), optax.scale(-3e38))
    progress = step(state, little_batch(*lead))[1]
    assert int(progress.bad_step) == len(lead)


def test_a_gradient_that_is_not_finite_is_found_at_its_step():
    step, state = begin(SpoiltTask(), adam(lambda step: 1e-2))
    batch = little_batch(3)
    flair = channel_indices(["flair"])[0]
    batch["image"] = batch["image"].at[1, 0, 0, 0, flair].set(100)
    assert int(step(state, batch)[1].bad_step) == 1
