"""Whole stages: their files, interruptions, devices, compute types, placements."""

import copy
import dataclasses
import functools
import shutil
import signal
import time

import jax
import numpy as np
import pytest
from meshes import mesh_of
from stage_examples import (
    OPTIONS,
    TASK,
    assert_same_outcome,
    disturbed,
    final_state,
    numbers,
    sigterm,
    stage_of,
)

from brats_jax.errors import BratsError
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.runs import checkpoints
from brats_jax.runs.documents import TrainingFacts
from brats_jax.runs.metrics_jsonl import read_metrics
from brats_jax.runtime.signals import Interrupted
from brats_jax.tasks import Pretraining, Segmentation
from brats_jax.training import trainer
from brats_jax.training.trainer import Stage
from brats_jax.training.validation import Validation

# A real network needs patches that its encoder can halve five times.
REAL = {"patch_size": 32, "learning_rate": 3e-3, "steps_per_epoch": 8}

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture
def make_stage(small_store, tmp_path):
    def make(where="stage", store=small_store, **options):
        return stage_of(store, tmp_path / where, **options)

    return make


@pytest.fixture(scope="module", params=[Pretraining, Segmentation])
def trained(request, small_store, shallow, tmp_path_factory):
    """(stage, result) of a network of each kind after three epochs."""
    directory = tmp_path_factory.mktemp("trained") / "stage"
    stage = stage_of(small_store, directory, request.param(width=4), epochs=3, **REAL)
    return stage, stage.run()


@pytest.fixture(scope="module")
def undisturbed(small_store, shallow, tmp_path_factory):
    """A stage that ran to its end without interruption."""
    stage = stage_of(small_store, tmp_path_factory.mktemp("undisturbed") / "stage")
    stage.run()
    return stage


@pytest.fixture
def after_one_epoch(small_store, tmp_path):
    """The folder of a stage that trained one epoch."""
    stage_of(small_store, tmp_path / "stage", epochs=1).run()


def test_the_training_loss_goes_down(trained):
    losses = [record["loss"] for record in numbers(trained[0], "train")]
    assert losses[-1] < 0.9 * losses[0]


def test_the_best_checkpoint_is_of_the_epoch_with_the_best_score(trained):
    stage, result = trained
    scores = {r["step"]: r[stage.task.metric] for r in numbers(stage, "validation")}
    assert set(scores) == {8, 16, 24} and result.steps == 24
    best = (max if stage.task.larger_is_better else min)(scores.values())
    assert result.metric == stage.task.metric
    assert result.best == best == scores[result.best_step]
    meta = checkpoints.read_meta(stage.folder.best)
    assert (meta.step, meta.value) == (result.best_step, best)


def test_a_checkpoint_records_model_options_and_data(trained):
    stage = trained[0]
    meta = checkpoints.read_meta(stage.folder.last)
    assert meta.model == stage.task.describe() and meta.record == TrainingFacts("patient")
    assert meta.options == dataclasses.asdict(stage.options)
    assert (meta.step, meta.epoch, meta.validated_step) == (24, 3, 24)
    assert int(final_state(stage).step) == 24


def test_metrics_are_logged_in_the_order_of_the_steps(undisturbed):
    assert [(r["event"], r["step"], r["epoch"]) for r in numbers(undisturbed)] == [
        ("step", 3, 1), ("step", 6, 1), ("train", 7, 1), ("validation", 7, 1),
        ("step", 9, 2), ("step", 12, 2), ("train", 14, 2), ("validation", 14, 2),
    ]  # fmt: skip
    assert list(undisturbed.folder.tensorboard.iterdir())


def test_the_logged_learning_rate_is_halved_after_the_epochs_asked_for(make_stage):
    stage = make_stage(epochs=4, steps_per_epoch=1, decay_every_epochs=2)
    stage.run()
    rates = [record["learning_rate"] for record in numbers(stage, "train")]
    assert rates == pytest.approx([1e-2, 1e-2, 5e-3, 5e-3])


# Interruptions


class Killed(Exception):
    """Stands for the end of the process."""


def kill():
    raise Killed


def test_killed_again_and_again_a_stage_ends_with_the_same_bits(
    make_stage, small_store, monkeypatch
):
    """While reading patches, while validating, and between the two checkpoints of an epoch."""
    options = {"save_every_steps": 2, "threads": 1}
    whole = make_stage("whole", **options)
    whole.run()

    def killed(**disturbance):
        stage = make_stage(store=disturbed(small_store, kill, **disturbance), **options)
        with pytest.raises(Killed):
            stage.run()
        return checkpoints.read_meta(stage.folder.last).step

    save = checkpoints.Checkpoints.save

    def save_best_only(self, step, *what):
        if self.directory.name == "last" and step == 14:
            raise Killed
        save(self, step, *what)

    assert killed(after=6) == 2
    assert killed(patches=False) == 6
    assert killed(after=5) in range(7, 14)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoints.Checkpoints, "save", save_best_only)
        make_stage(**options).run()
    stage = make_stage(**options)
    assert checkpoints.read_meta(stage.folder.last).step < 14
    stage.run()
    assert_same_outcome(stage, whole)


@pytest.mark.parametrize("after", [0, 5, 9])
def test_stopped_by_a_signal_a_stage_saves_and_ends_with_the_same_bits(
    after, make_stage, small_store, undisturbed
):
    stage = make_stage(store=disturbed(small_store, sigterm, after=after))
    with pytest.raises(Interrupted) as caught:
        stage.run()
    assert caught.value.code == 128 + signal.SIGTERM
    stopped = checkpoints.read_meta(stage.folder.last).step
    assert stopped < 14 and int(final_state(stage).step) == stopped
    stage = make_stage()
    stage.run()
    assert_same_outcome(stage, undisturbed)


# Of PointwiseTask: one of the two input channels of the first convolution, and the BatchNorm.
MARKS = {
    "encoder": {"kernel": np.array([True, False])[None, None, :, None]},
    "bn": {"scale": np.array(True), "bias": np.array(True)},
    "head": {"kernel": np.array(False), "bias": np.array(False)},
}


def test_what_was_transferred_is_frozen_for_whole_epochs_and_resumes_with_the_same_bits(
    make_stage, small_store
):
    """Killed while frozen, on two devices; BatchNorm statistics follow the batches throughout."""
    options = {"transferred": MARKS, "freeze_epochs": 1, "transferred_factor": 0.5, "threads": 1}
    start = jax.device_get(make_stage("start", **options).initial_state()[1])
    frozen = make_stage("frozen", epochs=1, **options)
    frozen.run()
    after = final_state(frozen)
    for part, name in (("bn", "scale"), ("bn", "bias")):
        np.testing.assert_array_equal(after.params[part][name], start.params[part][name])
    kernel, before = after.params["encoder"]["kernel"], start.params["encoder"]["kernel"]
    np.testing.assert_array_equal(kernel[:, :, 0], before[:, :, 0])
    assert (kernel[:, :, 1] != before[:, :, 1]).all()
    assert (after.params["head"]["kernel"] != start.params["head"]["kernel"]).any()
    assert (after.stats["bn"]["mean"] != start.stats["bn"]["mean"]).any()

    whole = make_stage("whole", **options)
    whole.run()
    assert (final_state(whole).params["bn"]["scale"] != start.params["bn"]["scale"]).any()
    interrupted = make_stage(store=disturbed(small_store, kill, after=5), **options)
    with pytest.raises(Killed):
        interrupted.run()
    stage = make_stage(**options)
    stage.run()
    assert_same_outcome(stage, whole)


def test_the_average_is_validated_and_kept(make_stage, small_store, undisturbed):
    """The training is that without an average, but for rounding; test_settings_together resumes."""
    options = {"ema": 0.8, "keep_last": True}
    whole = make_stage("whole", **options)
    whole.run()
    state, plain = final_state(whole), final_state(undisturbed)
    for name in ("params", "stats"):
        near = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
        jax.tree.map(near, getattr(state, name), getattr(plain, name))
    best = RestoredNetwork(whole.task, whole.folder, whole.mesh)
    jax.tree.map(np.testing.assert_array_equal, best.params, state.average["params"])
    jax.tree.map(np.testing.assert_array_equal, best.stats, state.average["stats"])
    assert (best.params["head"]["kernel"] != state.params["head"]["kernel"]).any()
    validation = Validation(TASK, best.graph, small_store, np.arange(10), 8, whole.mesh)
    values = validation.run(best.params, best.stats, lambda: None)
    assert values == {name: numbers(whole, "validation")[-1][name] for name in values}

    shutil.rmtree(whole.folder.best)  # made again from the average in `last`
    make_stage("whole", **options).run()
    again = RestoredNetwork(whole.task, whole.folder, whole.mesh)
    jax.tree.map(np.testing.assert_array_equal, best.params, again.params)


@pytest.mark.parametrize(("keep_last", "step", "value"), [(True, 6, 0.2), (False, 2, 0.1)])
def test_with_a_fixed_length_the_best_checkpoint_is_the_last(
    keep_last, step, value, make_stage, monkeypatch
):
    errors = iter([0.1, 0.3, 0.2])
    scores = lambda *_: dict.fromkeys(("loss", "mse"), next(errors))  # noqa: E731
    monkeypatch.setattr(trainer.Validation, "run", scores)
    result = make_stage(keep_last=keep_last, epochs=3, steps_per_epoch=2).run()
    assert (result.best_step, result.best) == (step, value)


def test_a_signal_during_the_last_save_stops_after_it_and_loses_nothing(
    make_stage, monkeypatch, undisturbed
):
    save = checkpoints.Checkpoints.save

    def save_and_signal(self, step, *what):
        if self.directory.name == "last" and step == 14:
            sigterm()
        save(self, step, *what)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(checkpoints.Checkpoints, "save", save_and_signal)
        make_stage().run()
    stage = make_stage()
    assert int(final_state(stage).step) == 14
    assert stage.run().steps == 14
    assert_same_outcome(stage, undisturbed)


def test_an_epoch_whose_validation_alone_is_repeated_has_no_rate(make_stage, small_store):
    """The process that repeats the validation has trained no patch of this epoch."""
    with pytest.raises(Interrupted):
        make_stage(epochs=1, store=disturbed(small_store, sigterm, patches=False)).run()
    stage = make_stage(epochs=1)
    assert checkpoints.read_meta(stage.folder.last).validated_step == 0
    stage.run()
    (record,) = [r for r in read_metrics(stage.folder.metrics_jsonl) if r["event"] == "train"]
    assert record["step"] == 7 and "patches_per_second" not in record


def test_training_continues_while_a_checkpoint_is_written(make_stage, monkeypatch):
    """The save of step 3 ends only after step 6 is logged."""
    stage, overlapped = make_stage(save_every_steps=3, epochs=1), []
    save = checkpoints.Checkpoints.save

    def slow(self, step, *what):
        deadline = time.monotonic() + 60
        while step == 3 and not overlapped and time.monotonic() < deadline:
            overlapped.extend(r for r in numbers(stage, "step") if r["step"] == 6)
            time.sleep(0.01)
        save(self, step, *what)

    monkeypatch.setattr(checkpoints.Checkpoints, "save", slow)
    stage.run()
    assert overlapped


def test_a_loss_that_is_not_finite_ends_training_and_keeps_the_last_checkpoint(
    make_stage, small_store, after_one_epoch
):
    store = copy.copy(small_store)

    def windows_with_nan(*given):
        images, labels = small_store.windows(*given)
        images[1] = np.nan
        return images, labels

    store.windows = windows_with_nan
    stage = make_stage(store=store)
    with pytest.raises(BratsError) as caught:
        stage.run()
    message = str(caught.value)
    assert "update is not finite at step 7 (epoch 2, slices Phantom_" in message
    assert "last/7 is kept" in message and "lower the learning rate" in message
    assert "\n" not in message
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(final_state(stage).params))


# Devices, compute types, placements


@pytest.mark.parametrize(("task", "options"), [(TASK, {}), (Segmentation(width=4), REAL)])
def test_two_devices_give_the_losses_of_one(make_stage, task, options):
    """The rate is low because Adam's first steps are rate * sign(gradient): where a gradient
    vanishes, rounding decides the sign, and the losses differ by the effect of the rate. Rounding
    may also give a pixel between two classes to the other, which changes a Dice by 5e-5."""
    options = {**options, "learning_rate": 1e-5, "steps_per_epoch": 3, "epochs": 1, "task": task}
    one, two = (make_stage(f"on {n}", mesh=mesh_of(n), **options) for n in (1, 2))
    one.run(), two.run()
    for a, b in zip(numbers(one), numbers(two), strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_training_resumes_on_another_number_of_devices(make_stage, after_one_epoch):
    stage = make_stage(mesh=mesh_of(1))
    assert stage.run().steps == 14
    assert [record["step"] for record in numbers(stage, "train")] == [7, 14]


def test_patches_cut_on_the_device_give_the_bits_of_those_cut_on_the_host(trained, tmp_path):
    """The cutting is a program of its own: in one program XLA rounds the pretraining otherwise."""
    host = trained[0]
    options = {**REAL, "epochs": 1, "placement": "device"}
    device = stage_of(host.store, tmp_path / "device", host.task, **options)
    device.run()
    assert numbers(device) == [record for record in numbers(host) if record["step"] <= 8]


@pytest.mark.parametrize("placement", ["host", "device"])
def test_several_steps_in_a_dispatch_give_the_bits_of_single_steps(
    placement, make_stage, undisturbed
):
    """Without convolutions: on CPU, XLA compiles those differently in a loop."""
    stage = make_stage(placement=placement, dispatch_steps=3)
    stage.run()
    assert_same_outcome(stage, undisturbed)


def test_stopped_between_dispatches_of_several_steps_a_stage_ends_with_the_same_bits(
    make_stage, small_store, undisturbed
):
    with pytest.raises(Interrupted):
        make_stage(store=disturbed(small_store, sigterm, after=1), dispatch_steps=3).run()
    stage = make_stage(dispatch_steps=3)
    stage.run()
    assert_same_outcome(stage, undisturbed)


# Refusals


def test_a_checkpoint_of_another_width_is_refused(trained):
    stage = trained[0]
    wider = dataclasses.replace(stage.task, width=8)
    with pytest.raises(BratsError, match="another model: width is 4 there, 8 here"):
        stage_of(stage.store, stage.folder.path, wider, **REAL).run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 3}, "batch_size=3 cannot be divided among 2 devices"),
        ({"patch_size": 64}, "does not fit slices of 48 x 48"),
    ],
)
def test_impossible_options_are_refused(make_stage, options, message):
    with pytest.raises(BratsError, match=message):
        make_stage(**options)


def test_a_stage_without_validation_slices_is_refused(small_store, tmp_path):
    nothing = np.arange(0)
    with pytest.raises(BratsError, match="no slice to validate on"):
        Stage(TASK, small_store, np.arange(9), nothing, OPTIONS, tmp_path, mesh_of(1))
