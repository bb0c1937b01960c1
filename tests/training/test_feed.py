"""What the loop is fed: both placements, several steps in a dispatch, the order of logging."""

import dataclasses
import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.array import ArrayImpl
from meshes import mesh_of
from pointwise import PointwiseTask

from brats_jax import models
from brats_jax.data.augment import Augmentation
from brats_jax.data.device_store import DeviceStore
from brats_jax.data.patches import cut
from brats_jax.runs import checkpoints
from brats_jax.runs.metrics import read_metrics
from brats_jax.runtime import devices
from brats_jax.runtime.signals import Interrupted
from brats_jax.tasks import Pretraining, Segmentation
from brats_jax.training import feed as feeding
from brats_jax.training import loop, steps, trainer, validation
from brats_jax.training.checkpointing import Saving
from brats_jax.training.feed import Cadence, Feed
from brats_jax.training.optim import adam
from brats_jax.training.trainer import Stage, TrainOptions
from brats_jax.training.validation import Validation

OPTIONS = TrainOptions(
    epochs=2,
    steps_per_epoch=7,
    batch_size=4,
    learning_rate=1e-2,
    patch_size=16,
    validation_batch_size=8,
    save_every_steps=100,
    log_every_steps=3,
)


@pytest.fixture
def make_stage(small_store, tmp_path):
    def make(where, task=None, **options):
        return Stage(
            task or PointwiseTask(),
            small_store,
            np.arange(20, 60),
            np.arange(10),
            dataclasses.replace(OPTIONS, **options),
            tmp_path / where,
            mesh_of(2),
        )

    return make


def outcome(stage):
    """(final state, metrics without the clock) of a stage that has run."""
    _, state = stage.fresh_state()
    template = jax.tree.map(trainer._shape_with_sharding, state._asdict())
    restored, _ = checkpoints.read(stage.directory / "last", template, stage.task.describe())
    records = read_metrics(stage.directory / "metrics.jsonl")
    return jax.device_get(restored), [
        {k: v for k, v in r.items() if k != "patches_per_second"} for r in records
    ]


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one[0], other[0])
    assert one[1] == other[1]


def lengths(cadence, first, total):
    steps, out = first, []
    while steps < total:
        out.append(cadence.length(steps))
        steps += out[-1]
    return out


def test_dispatches_end_where_something_has_to_be_done():
    # Epochs of 10, a line every 6 steps: marks at 6, 10, 12, 18, 20.
    cadence = Cadence(4, (10, 6, 1000))
    assert lengths(cadence, 0, 20) == [4, 1, 1, 4, 1, 1, 4, 1, 1, 1, 1]
    assert lengths(Cadence(1, (10, 6)), 0, 3) == [1, 1, 1]
    assert lengths(Cadence(50, (100,)), 0, 100) == [50, 50]
    # Stopped after any of them it goes on with what would have followed.
    assert lengths(cadence, 6, 20) == lengths(cadence, 0, 20)[3:]
    # From a step that this cadence does not stop at (another was used before), one by one.
    assert lengths(cadence, 1, 6) == [1] * 5


def test_how_many_steps_a_dispatch_has(monkeypatch):
    assert feeding.steps_per_dispatch(0, 16, 128) == feeding.steps_per_dispatch(8, 16, 128) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert feeding.steps_per_dispatch(0, 16, 128) == 25
    assert feeding.steps_per_dispatch(0, 256, 128) == 3
    assert feeding.steps_per_dispatch(0, 4096, 240) == 1
    assert feeding.steps_per_dispatch(8, 16, 128) == 8


def test_several_steps_are_stacked_and_the_position_is_what_was_handed_out(
    small_store, plan, monkeypatch
):
    monkeypatch.setattr(feeding, "steps_per_dispatch", lambda *_: 3)
    options = dataclasses.replace(OPTIONS, log_every_steps=7, epochs=1)
    feed = Feed(small_store, plan, options, 7, 0, None, mesh_of(2))
    portions = list(feed)
    assert [p.steps for p in portions] == [3, 3, 1]
    images = [np.asarray(p.batch["image"]).reshape(-1, 16, 16, 4) for p in portions]
    expected = cut(small_store, plan.examples(0, 28), 16)["image"]
    np.testing.assert_array_equal(np.concatenate(images), expected)
    feed.close()
    again = Feed(small_store, plan, options, 7, 3, portions[0].position, mesh_of(2))
    assert again.position == portions[0].position  # although more lies ready
    np.testing.assert_array_equal(next(again).batch["image"], portions[1].batch["image"])
    again.close()


@pytest.fixture
def one_by_one(make_stage):
    stage = make_stage("plain")
    stage.run()
    return outcome(stage)


def test_cut_on_the_device_it_ends_with_the_same_bits(make_stage, one_by_one):
    stage = make_stage("device", placement="device")
    stage.run()
    assert_same(outcome(stage), one_by_one)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    "task", [Pretraining(width=4), Segmentation(width=4, augmentation=Augmentation())]
)
def test_cut_on_the_device_a_network_of_convolutions_has_the_same_bits(make_stage, task):
    """The cutting is a program of its own: one program with it rounds the pretext otherwise."""
    options = {"epochs": 1, "patch_size": 32, "batch_size": 2, "steps_per_epoch": 20}
    runs = []
    for where in ("host", "device"):
        stage = make_stage(where, task=task, placement=where, **options)
        stage.run()
        runs.append(outcome(stage))
    assert runs[0][0]["step"] == 20
    assert_same(*runs)


@pytest.mark.parametrize("count", [1, 2])
def test_patches_cut_on_the_devices_are_given_to_the_step_of_those_that_are_not(
    small_store, plan, count
):
    """The very same program, so the same rounding on any machine."""
    task, mesh = PointwiseTask(), mesh_of(count)
    resident = DeviceStore(small_store, np.arange(20, 60), mesh)
    graph, params, stats = models.split(task.build(0))
    optimizer = adam(lambda step: 1e-2)
    counters = (jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.full((), -1, jnp.int32))
    state = steps.TrainState(params, stats, optimizer.init(params), *counters)
    state = jax.device_put(state, devices.replicated_sharding(mesh))
    step = steps.make_train_step(task, graph, optimizer, mesh, resident.arrays, 16)
    ran = []
    run, step._run = step._run, lambda *given: ran.append(given) or run(*given)
    drawn = plan.examples(0, 4)
    state, _ = step(state, devices.put_batch(resident.numbers(drawn), mesh))
    state, _ = run(state, devices.put_batch(cut(small_store, drawn, 16), mesh), None)
    assert run._cache_size() == 1 and ran[0][2] is None and int(state.step) == 2


def before_each_dispatch(monkeypatch, note):
    """Has note(state, batch) called."""
    make = loop.make_train_step

    def watched(*args):
        step = make(*args)

        def run_step(state, batch):
            note(state, batch)
            return step(state, batch)

        return run_step

    monkeypatch.setattr(loop, "make_train_step", watched)


def test_several_steps_in_a_dispatch_end_with_the_same_bits(make_stage, one_by_one, monkeypatch):
    """Of a network without convolutions: on CPU, XLA compiles those differently in a loop."""
    monkeypatch.setattr(feeding, "steps_per_dispatch", lambda *_: 3)
    seen = []
    before_each_dispatch(monkeypatch, lambda state, batch: seen.append(batch["seed"].ndim))
    stage = make_stage("scanned", placement="device")
    stage.run()
    # Of each epoch of 7, lines at multiples of 3: 3 + 3 + 1, then 2 + 3 + 2.
    assert seen == [2, 2, 1, 1, 1, 2, 1, 1]
    assert_same(outcome(stage), one_by_one)


@pytest.mark.parametrize("placement", ["host", "device"])
def test_stopped_within_an_epoch_of_several_steps_a_dispatch_it_goes_on_with_the_same_bits(
    placement, make_stage, one_by_one, monkeypatch
):
    monkeypatch.setattr(feeding, "steps_per_dispatch", lambda *_: 3)
    begun = []

    def stop_once(state, batch):
        begun.append(int(state.step))
        if begun == [0, 3]:
            os.kill(os.getpid(), signal.SIGTERM)

    before_each_dispatch(monkeypatch, stop_once)
    stage = make_stage("stopped", placement=placement)
    with pytest.raises(Interrupted):
        stage.run()
    stage.run()
    # Saved at 6; the next epoch is cut as that of a run which was not stopped.
    assert begun == [0, 3, 6, 7, 8, 9, 12, 13]
    assert_same(outcome(stage), one_by_one)


@pytest.fixture
def reads(monkeypatch):
    """Arrays whose numbers this thread fetches, and what it waits for, as they come."""
    fetched, waited = [], []
    this, fetch, wait = threading.current_thread(), ArrayImpl._value, jax.block_until_ready

    def fetching(array):
        if threading.current_thread() is this:
            fetched.append(array)
        return fetch.fget(array)

    def waiting(what):
        if threading.current_thread() is this:
            waited.append(what)
        return wait(what)

    # Behind float(), int(), bool() and jax.device_get().
    monkeypatch.setattr(ArrayImpl, "_value", property(fetching))
    monkeypatch.setattr(jax, "block_until_ready", waiting)
    return fetched, waited


def test_within_an_epoch_the_loop_never_waits_for_what_it_has_just_dispatched(
    make_stage, monkeypatch, reads
):
    """A number is read when at least one later dispatch is under way, or at an epoch's end."""
    fetched, waited = reads
    dispatched, donated, seen = [], [], []
    make = loop.make_train_step

    def watching(*args):
        step = make(*args)

        def run_step(state, batch):
            seen.extend(("waits", len(dispatched), w) for w in waited)
            seen.extend(("fetches", len(dispatched), f) for f in fetched)
            waited.clear(), fetched.clear()
            after, progress = step(state, batch)
            dispatched.append(progress)
            donated.append(all(leaf.is_deleted() for leaf in jax.tree.leaves(state)))
            return after, progress

        return run_step

    monkeypatch.setattr(loop, "make_train_step", watching)
    make_stage("watched", epochs=1, save_every_steps=2).run()

    def dispatch_of(what):
        return next(
            (
                i + 1
                for i, p in enumerate(dispatched)
                if what is p or any(what is leaf for leaf in p)
            ),
            "something else",
        )

    within = [(kind, now, dispatch_of(what)) for kind, now, what in seen if now]
    # Two younger ones in flight, where a checkpoint is saved too.
    assert [(now, of) for kind, now, of in within if kind == "waits"] == [
        (3, 1), (4, 2), (5, 3), (6, 4),
    ]  # fmt: skip
    # Lines and checkpoints of steps 2, 3 and 4, when these are long done: finite? which loss?
    assert [(now, of) for kind, now, of in within if kind == "fetches"] == [
        (4, 2), (5, 3), (5, 3), (6, 4),
    ]  # fmt: skip
    # The state lies in memory once; the first may lie in NumPy's memory, which is not given away.
    assert donated[1:] == [True] * 6


def test_validation_reads_nothing_before_its_last_batch(make_stage, monkeypatch, reads):
    fetched, waited = reads
    stage = make_stage("validated")
    graph, state = stage.fresh_state()
    ran = []
    make = validation.make_validation_step

    def watching(*args):
        step = make(*args)
        return lambda *given: ran.append((len(fetched), len(waited))) or step(*given)

    monkeypatch.setattr(validation, "make_validation_step", watching)
    batch, mesh = 2, mesh_of(2)
    measured = Validation(stage.task, graph, stage.store, np.arange(10), batch, mesh)
    fetched.clear(), waited.clear()
    measured.run(state.params, state.stats, lambda: None)
    # Five batches, of which three may be under way; numbers are fetched when all are done.
    assert ran == [(0, 0), (0, 0), (0, 0), (0, 1), (0, 2)] and fetched


@pytest.mark.parametrize(("epochs", "save_every"), [(1, 3), (2, 100)])
def test_the_loop_goes_on_while_a_checkpoint_is_written(
    make_stage, monkeypatch, epochs, save_every
):
    """Within an epoch and from one to the next: two more dispatches come before it is on disk."""
    dispatched, in_time = [], []
    before_each_dispatch(monkeypatch, lambda state, batch: dispatched.append(1))
    write = Saving._write

    def slow(self, *what):
        wanted, late = min(len(dispatched) + 2, 7 * epochs), time.monotonic() + 20
        while len(dispatched) < wanted and time.monotonic() < late:
            time.sleep(0.01)
        in_time.append(len(dispatched) >= wanted)
        write(self, *what)

    monkeypatch.setattr(Saving, "_write", slow)
    make_stage("slow", epochs=epochs, save_every_steps=save_every).run()
    assert in_time == [True] * (3 if epochs == 1 else 2)


def test_losses_in_the_log_are_those_of_the_steps(one_by_one):
    """The delayed lines are in order and at their steps."""
    steps = [(r["event"], r["step"], r["epoch"]) for r in one_by_one[1]]
    assert steps == [
        ("step", 3, 1), ("step", 6, 1), ("train", 7, 1), ("validation", 7, 1),
        ("step", 9, 2), ("step", 12, 2), ("train", 14, 2), ("validation", 14, 2),
    ]  # fmt: skip
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(one_by_one[0]["params"]))
    assert jnp.asarray(one_by_one[0]["step"]) == 14
