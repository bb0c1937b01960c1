"""The compiled training step: its operations, its state, and steps that are not finite."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from meshes import mesh_of
from pointwise import PointwiseTask

from brats_jax import models
from brats_jax.data.device_store import DeviceStore
from brats_jax.data.modalities import channel_indices
from brats_jax.data.patches import cut
from brats_jax.models import resnet
from brats_jax.models.ops.max_pool import max_pool_3x3_stride2_plain
from brats_jax.runtime import devices, forms
from brats_jax.tasks import Pretraining, Segmentation
from brats_jax.training.optim import adam
from brats_jax.training.steps import TrainState, make_train_step, make_validation_step

SINGLE, HALF = PointwiseTask(), PointwiseTask(dtype=jnp.bfloat16)
ADAM = adam(lambda step: 1e-2)

one_or_three = pytest.mark.parametrize("lead", [(), (3,)], ids=["one step", "three in a dispatch"])


@jax.custom_vjp
def spoilt(x, bad):
    """`x`, whose gradient is not finite where it is `bad`."""
    return x


spoilt.defvjp(lambda x, bad: (x, bad), lambda bad, g: (jnp.where(bad, jnp.nan, g), None))


@dataclasses.dataclass(frozen=True)
class SpoiltTask(PointwiseTask):
    """A bright first pixel spoils the gradient, not the loss."""

    def loss(self, output, target):
        return super().loss(spoilt(output, target[0, 0, 0, 0] > 50), target)


def begin(task, optimizer=ADAM, mesh=None, **options):
    """(step, state) of a task; with an average where `ema` is given."""
    mesh = mesh or mesh_of(1)
    graph, params, stats = models.split(task.build(0))
    counters = (jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.full((), -1, jnp.int32))
    network = {"params": params, "stats": stats} if options.get("ema") else None
    average = jax.tree.map(jnp.copy, network)
    state = TrainState(params, stats, optimizer.init(params), *counters, average)
    state = jax.device_put(state, devices.replicated_sharding(mesh))
    return make_train_step(task, graph, optimizer, mesh, **options), state


def batch_of(*lead, size=8):
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.standard_normal((*lead, 2, size, size, 4)), jnp.float16),
        "label": jnp.zeros((*lead, 2, size, size), jnp.uint8),
        "seed": jnp.zeros((*lead, 2), jnp.uint32),
    }


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("kind", [Pretraining, Segmentation])
def test_every_operation_of_the_step_is_deterministic(kind, on_cpu, monkeypatch):
    """On GPU, `select_and_scatter` (a max-pool's usual gradient) adds up in any order.

    A step as CPUs train; and three in a dispatch in the forms and the type of accelerators.
    """
    monkeypatch.setattr(resnet, "BLOCKS", (1, 1, 1, 1))
    task = kind(width=4, dtype=jnp.float32 if on_cpu else jnp.bfloat16)
    step, state = begin(task)
    batch = batch_of(size=32) if on_cpu else batch_of(3, size=32)
    with forms.traced_for("cpu" if on_cpu else "gpu"):
        text = step.lower(state, batch).as_text()
    assert "stablehlo.convolution" in text and ("stablehlo.while" in text) != on_cpu
    for name in ("scatter", "sort"):
        assert f"stablehlo.{name}" not in text
    assert "select_and_scatter" not in text
    # It would be found if it were there.
    plain = jax.grad(lambda x: max_pool_3x3_stride2_plain(x).sum())
    assert "select_and_scatter" in jax.jit(plain).lower(jnp.zeros((1, 4, 4, 1))).as_text()


def test_the_step_is_compiled_with_the_options_that_are_given():
    """Here an option that the compiler refuses."""
    step, state = begin(SINGLE, compiler_options={"xla_no_such_option": True})
    with pytest.raises(RuntimeError, match="xla_no_such_option"):
        step(state, batch_of())


def test_a_step_adds_its_loss_and_moves_every_parameter():
    step, state = begin(SINGLE)
    before, batch = jax.device_get(state), batch_of()
    x, target = SINGLE.prepare(batch, training=True)
    output, _ = models.apply(
        models.split(SINGLE.build(0))[0], state.params, state.stats, x, train=True
    )
    loss = float(SINGLE.loss(output, target))
    state, progress = step(state, batch)
    assert int(state.step) == 1 and int(progress.bad_step) == -1
    assert float(progress.loss_sum) == float(state.loss_sum) == pytest.approx(loss, rel=1e-5)
    for old, new in zip(*map(jax.tree.leaves, (before.params, state.params)), strict=True):
        assert (old != np.asarray(new)).any()


def test_the_loss_goes_down_on_one_batch():
    step, state = begin(SINGLE)
    losses = []
    for _ in range(20):
        state, progress = step(state, batch_of())
        losses.append(float(progress.loss_sum))
    losses = np.diff(losses, prepend=0)
    assert losses[-1] < 0.9 * losses[0]


def test_a_step_reuses_the_memory_of_the_state_it_is_given():
    step, state = begin(SINGLE)
    state, _ = step(state, batch_of())
    step(state, batch_of())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_three_steps_in_a_dispatch_give_the_bits_of_three_dispatches():
    batches = batch_of(3)
    step, state = begin(SINGLE)
    together, _ = step(state, batches)
    step, state = begin(SINGLE)
    for i in range(3):
        state, _ = step(state, {name: array[i] for name, array in batches.items()})
    assert_same(together, state)


def test_a_step_averages_the_networks_of_all_steps_and_trains_as_without():
    """Parameters and BatchNorm statistics, with the shares of a decay of 0.2; in one dispatch too.

    XLA may round otherwise where it averages, and in a loop.
    """
    batches, plain = batch_of(3), begin(SINGLE)[1]
    expected = jax.device_get({"params": plain.params, "stats": plain.stats})
    _, state = begin(SINGLE)
    step, averaging = begin(SINGLE, ema=0.2)
    for t in (1, 2, 3):
        batch = {name: array[t - 1] for name, array in batches.items()}
        state, averaging = begin(SINGLE)[0](state, batch)[0], step(averaging, batch)[0]
        assert_same(averaging.network, averaging.average)
        d = min(0.2, (1 + t) / (10 + t))
        now = jax.device_get({"params": state.params, "stats": state.stats})
        expected = jax.tree.map(lambda a, b, d=d: d * a + (1 - d) * b, expected, now)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # noqa: E731
    jax.tree.map(near, averaging.average, expected)
    jax.tree.map(near, (averaging.params, averaging.stats), (state.params, state.stats))
    step, together = begin(SINGLE, ema=0.2)
    jax.tree.map(near, step(together, batches)[0].average, expected)


def test_without_an_average_state_and_checkpoint_are_those_of_earlier_versions():
    _, state = begin(SINGLE)
    names = ["params", "stats", "opt_state", "step", "loss_sum", "bad_step"]
    assert list(state.parts) == names
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(state.parts))
    assert_same(state.network, {"params": state.params, "stats": state.stats})


@pytest.mark.parametrize("count", [1, 2])
def test_patches_cut_on_the_devices_give_the_bits_of_those_that_are_not(small_store, plan, count):
    mesh, drawn = mesh_of(count), plan.examples(0, 4)
    resident = DeviceStore(small_store, np.arange(20, 60), mesh)
    step, state = begin(SINGLE, mesh=mesh, resident=resident.arrays, patch_size=16)
    device, _ = step(state, devices.put_batch(resident.positions(drawn), mesh))
    step, state = begin(SINGLE, mesh=mesh)
    host, _ = step(state, devices.put_batch(cut(small_store, drawn, 16), mesh))
    assert_same(device, host)


@one_or_three
def test_kernels_rounded_before_the_step_give_the_bits_of_kernels_rounded_in_it(lead, monkeypatch):
    def after():
        step, state = begin(HALF)
        return step(state, batch_of(*lead))[0]

    before_the_step = after()
    monkeypatch.setenv(forms.VARIABLE, "rounded")
    assert_same(before_the_step, after())


# Steps that are not finite


@one_or_three
def test_finite_steps_leave_no_bad_step(lead):
    step, state = begin(HALF)
    assert int(step(state, batch_of(*lead))[1].bad_step) == -1


@one_or_three
def test_an_update_that_overflows_is_found_at_the_end_of_its_dispatch(lead):
    """The loss and the gradients are finite; of three steps the second has a loss that is not."""
    step, state = begin(HALF, optax.scale(-3e38))
    progress = step(state, batch_of(*lead))[1]
    assert int(progress.bad_step) == len(lead)


def test_a_gradient_that_is_not_finite_is_found_at_its_step():
    step, state = begin(SpoiltTask(dtype=jnp.bfloat16))
    batch = batch_of(3)
    flair = channel_indices(["flair"])[0]
    batch["image"] = batch["image"].at[1, 0, 0, 0, flair].set(100)
    assert int(step(state, batch)[1].bad_step) == 1


def test_the_first_bad_step_is_kept():
    step, state = begin(SINGLE)
    batch = batch_of()
    spoilt = {**batch, "image": batch["image"].at[0, 0, 0].set(jnp.nan)}
    state, _ = step(state, batch)
    for given in (spoilt, batch):
        state, progress = step(state, given)
        assert int(progress.bad_step) == 1


def test_validation_gives_the_loss_and_the_statistics_of_each_slice():
    graph, params, stats = models.split(SINGLE.build(0))
    validate = make_validation_step(SINGLE, graph, mesh_of(2))
    batch = batch_of()
    values = validate(params, stats, batch)
    x, target = SINGLE.prepare(batch, training=False)
    output, _ = models.apply(graph, params, stats, x, train=False)
    np.testing.assert_allclose(values["loss"], SINGLE.loss(output, target), rtol=1e-5)
    np.testing.assert_allclose(
        values["mse"], jnp.square(output - target).mean((1, 2, 3)), rtol=1e-5
    )
