import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from meshes import mesh_of

from brats_jax.data.augment import Augmentation
from brats_jax.data.splits import fold_split, make_splits, select_slices
from brats_jax.errors import BratsError
from brats_jax.runs import checkpoints
from brats_jax.runs.metrics import read_metrics
from brats_jax.runtime import devices
from brats_jax.runtime.signals import Interrupted
from brats_jax.tasks import Pretraining, Segmentation
from brats_jax.training import loop, trainer
from brats_jax.training.trainer import Stage, TrainOptions

OPTIONS = TrainOptions(
    epochs=2,
    steps_per_epoch=3,
    batch_size=4,
    learning_rate=1e-3,
    patch_size=32,
    validation_batch_size=8,
    save_every_steps=2,
    log_every_steps=2,
)
TASKS = {"pretrain": Pretraining(width=4), "segment": Segmentation(width=4)}


pytestmark = pytest.mark.usefixtures("shallow")


def stage_of(store, directory, name, task=None, mesh=None, **options):
    split = fold_split(make_splits(store, num_folds=3), store, 0)
    return Stage(
        task or TASKS[name],
        store,
        select_slices(store, split.train, "tumour"),
        split.validation[:10],
        dataclasses.replace(OPTIONS, **options),
        directory,
        mesh or devices.data_mesh(),
    )


@pytest.fixture
def make_stage(small_store, tmp_path):
    def make(name, where="stage", **options):
        return stage_of(small_store, tmp_path / where, name, **options)

    return make


@pytest.fixture(scope="module")
def an_epoch(small_store, shallow, tmp_path_factory):
    """The folder of a segmentation after one epoch, on two devices."""
    directory = tmp_path_factory.mktemp("epoch") / "stage"
    stage_of(small_store, directory, "segment", mesh=mesh_of(2), epochs=1).run()
    return directory


@pytest.fixture
def after_an_epoch(an_epoch, tmp_path):
    """What `make_stage` makes goes on from there."""
    shutil.copytree(an_epoch, tmp_path / "stage")


def final_state(stage):
    _, state = stage.fresh_state()
    template = jax.tree.map(trainer._shape_with_sharding, state._asdict())
    restored, _ = checkpoints.read(stage.directory / "last", template, stage.task.describe())
    return jax.device_get(restored)


def numbers(stage):
    """metrics.jsonl without the clock."""
    records = read_metrics(stage.directory / "metrics.jsonl")
    return [{k: v for k, v in r.items() if k != "patches_per_second"} for r in records]


@pytest.mark.parametrize("name", ["pretrain", "segment"])
def test_a_stage_trains_and_leaves_what_it_promises(make_stage, name):
    stage = make_stage(name)
    result = stage.run()
    assert result["steps"] == 6 and result["metric"] == stage.task.metric
    records = numbers(stage)
    assert [(r["event"], r["step"]) for r in records] == [
        ("step", 2), ("train", 3), ("validation", 3), ("step", 4), ("train", 6), ("validation", 6),
    ]  # fmt: skip
    values = {r["step"]: r[stage.task.metric] for r in records if r["event"] == "validation"}
    best = max(values.values()) if stage.task.larger_is_better else min(values.values())
    assert result["best"] == best == values[result["best_step"]]
    meta = checkpoints.read_meta(stage.directory / "best")
    assert meta["step"] == result["best_step"] and meta["value"] == best
    assert meta["options"]["learning_rate"] == 1e-3
    assert list((stage.directory / "tensorboard").iterdir())
    assert int(final_state(stage)["step"]) == 6
    for line in (stage.directory / "metrics.jsonl").read_text().splitlines():
        assert {"event", "step", "epoch"} <= json.loads(line).keys()


def test_loss_goes_down(make_stage):
    stage = make_stage(
        "segment", epochs=4, steps_per_epoch=8, learning_rate=3e-3, save_every_steps=100
    )
    stage.run()
    losses = [r["loss"] for r in numbers(stage) if r["event"] == "train"]
    assert losses[-1] < 0.8 * losses[0]


def test_learning_rate_is_halved_on_time(make_stage):
    stage = make_stage("segment", epochs=4, steps_per_epoch=3, decay_every_epochs=2)
    assert [float(stage.schedule(step)) for step in (0, 5, 6, 11, 12)] == pytest.approx(
        [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4]
    )


class Stop(Exception):
    pass


def test_stopped_anywhere_it_ends_with_the_same_bits(make_stage, monkeypatch):
    """Here by exceptions at chosen places; test_main kills real processes, in both stages."""
    name = "segment"
    task = dataclasses.replace(TASKS[name], augmentation=Augmentation())
    whole = make_stage(name, "whole", task=task, steps_per_epoch=5)
    whole.run()

    stage = make_stage(name, "stopped", task=task, steps_per_epoch=5)
    make, save = loop.make_train_step, checkpoints.Checkpoints.save

    def failing_at(step):
        def factory(*args):
            inner = make(*args)

            def run_step(state, batch):
                if int(state.step) == step:
                    raise Stop
                return inner(state, batch)

            return run_step

        return factory

    def stop(*args):
        raise Stop

    def stop_before_last(self, step, *args):
        if self.directory.name == "last" and step == 10:
            raise Stop
        save(self, step, *args)

    def saved():
        return [checkpoints.read_meta(stage.directory / name)["step"] for name in ("last", "best")]

    for step in (1, 4, 9):
        with monkeypatch.context() as patch, pytest.raises(Stop):
            patch.setattr(loop, "make_train_step", failing_at(step))
            stage.run()
    assert saved() == [6, 5]  # within an epoch
    # Killed while validating: the epoch's steps are saved or not, its validation is not.
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(loop.Loop, "_validate", stop)
        stage.run()
    # Killed between the two checkpoints of one epoch.
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(checkpoints.Checkpoints, "save", stop_before_last)
        stage.run()
    assert saved()[0] == 8
    stage.run()
    jax.tree.map(np.testing.assert_array_equal, final_state(stage), final_state(whole))
    assert numbers(stage) == numbers(whole)


def test_told_to_stop_after_the_last_step_it_does_and_loses_nothing(make_stage, monkeypatch):
    whole = make_stage("segment", "whole")
    expected = whole.run()
    stage = make_stage("segment")
    save = checkpoints.Checkpoints.save

    def told_while_saving(self, step, *args):
        if self.directory.name == "last" and step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        save(self, step, *args)

    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        patch.setattr(checkpoints.Checkpoints, "save", told_while_saving)
        stage.run()
    assert caught.value.code == 128 + signal.SIGTERM
    result = stage.run()
    assert {**result, "seconds": 0} == {**expected, "seconds": 0}
    jax.tree.map(np.testing.assert_array_equal, final_state(stage), final_state(whole))
    assert numbers(stage) == numbers(whole)


@pytest.mark.parametrize("name", ["pretrain", "segment"])
def test_two_devices_give_the_losses_of_one(make_stage, name):
    """The rate is low because Adam's first steps are rate * sign(gradient): where a gradient
    vanishes, rounding decides the sign, and the losses differ by what the rate makes of that."""
    assert jax.device_count() >= 2
    numbers_by_devices = []
    for count in (1, 2):
        stage = make_stage(
            name,
            f"on {count}",
            mesh=mesh_of(count),
            batch_size=8,
            patch_size=48,
            learning_rate=1e-5,
        )
        stage.run()
        numbers_by_devices.append(numbers(stage))
    for one, two in zip(*numbers_by_devices, strict=True):
        assert one == pytest.approx(two, abs=1e-5)


def test_training_resumes_on_another_number_of_devices(make_stage, after_an_epoch):
    stage = make_stage("segment", mesh=mesh_of(1), epochs=2)
    assert stage.run()["steps"] == 6
    trained = [r["step"] for r in numbers(stage) if r["event"] == "train"]
    assert trained == [3, 6]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    make_stage, after_an_epoch, monkeypatch
):
    stage = make_stage("segment")
    put = devices.put_batch

    def put_broken(batch, mesh):
        images = np.where(np.arange(4) == 1, np.nan, batch["image"]).astype(np.float16)
        return put({**batch, "image": images}, mesh)

    monkeypatch.setattr(devices, "put_batch", put_broken)
    with pytest.raises(BratsError) as caught:
        stage.run()
    message = str(caught.value)
    assert "update is not finite at step 3 (epoch 2, slices Phantom_" in message
    assert "last/3 is kept" in message and "lower the learning rate" in message
    assert "\n" not in message
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(final_state(stage)["params"]))


def test_bfloat16_begins_with_an_epoch_in_float32(make_stage, monkeypatch):
    """To the bit it is a float32 epoch, from which the rest goes on in bfloat16."""
    make, used = loop.make_train_step, []

    def watched(task, *rest):
        step = make(task, *rest)

        def run(state, batch):
            used.append((task.dtype, int(state.step)))
            return step(state, batch)

        return run

    monkeypatch.setattr(loop, "make_train_step", watched)
    half = TASKS["segment"].computing_in(jax.numpy.bfloat16)
    whole = make_stage("segment", "whole", task=half, float32_epochs=1)
    whole.run()
    assert used == [(jax.numpy.float32 if n < 3 else half.dtype, n) for n in range(6)]
    make_stage("segment", "parts", epochs=1).run()
    used.clear()
    parts = make_stage("segment", "parts", task=half, float32_epochs=1)
    parts.run()
    assert used[0] == (half.dtype, 3) and len(used) == 3
    jax.tree.map(np.testing.assert_array_equal, final_state(parts), final_state(whole))


def test_bfloat16_keeps_float32_state(make_stage):
    stage = make_stage("segment", task=Segmentation(width=4, dtype=jax.numpy.bfloat16), epochs=1)
    stage.run()
    assert {a.dtype for a in jax.tree.leaves(final_state(stage)["params"])} == {np.dtype("float32")}


def test_a_checkpoint_of_another_width_is_refused(make_stage, after_an_epoch):
    with pytest.raises(BratsError, match="another model: width is 4 there, 8 here"):
        make_stage("segment", task=Segmentation(width=8)).run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 3}, "batch_size=3 cannot be divided among 2 devices"),
        ({"validation_batch_size": 5}, "validation_batch_size=5 cannot be divided"),
        ({"patch_size": 64}, "does not fit slices of 48 x 48"),
    ],
)
def test_impossible_options_are_refused(make_stage, options, message):
    with pytest.raises(BratsError, match=message):
        make_stage("segment", mesh=mesh_of(2), **options)
