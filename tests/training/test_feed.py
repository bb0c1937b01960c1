"""The batches of a stage: how steps are grouped, and where a feed continues."""

import dataclasses

import jax
import numpy as np
import pytest
from meshes import mesh_of

from brats_jax.data.device_store import DeviceStore
from brats_jax.data.patches import cut
from brats_jax.training import feed as feeding
from brats_jax.training.feed import Cadence, Feed
from brats_jax.training.options import TrainOptions

STEPS = 7
OPTIONS = TrainOptions(epochs=1, batch_size=4, patch_size=16, log_every_steps=STEPS)


def lengths(cadence, first, total):
    steps, out = first, []
    while steps < total:
        out.append(cadence.length(steps))
        steps += out[-1]
    return out


def test_no_dispatch_crosses_a_step_after_which_something_is_written():
    # Epochs of 10, a line every 6 steps: marks at 6, 10, 12, 18, 20.
    assert lengths(Cadence(4, (10, 6, 1000)), 0, 20) == [4, 1, 1, 4, 1, 1, 4, 1, 1, 1, 1]
    assert lengths(Cadence(1, (10, 6)), 0, 3) == [1, 1, 1]
    assert lengths(Cadence(50, (100,)), 0, 100) == [50, 50]


def test_a_resumed_run_is_divided_into_the_same_dispatches():
    cadence = Cadence(4, (10, 6, 1000))
    assert lengths(cadence, 6, 20) == lengths(cadence, 0, 20)[3:]
    # From a step where this cadence has no boundary, step by step.
    assert lengths(cadence, 1, 6) == [1] * 5


def test_a_dispatch_on_cpu_is_a_single_step():
    assert feeding.steps_per_dispatch(0, 16, 128) == feeding.steps_per_dispatch(8, 16, 128) == 1


def test_a_dispatch_on_an_accelerator_is_shorter_where_a_step_is_longer(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert feeding.steps_per_dispatch(0, 16, 128) == 25
    assert feeding.steps_per_dispatch(0, 256, 128) == 3
    assert feeding.steps_per_dispatch(0, 4096, 240) == 1
    assert feeding.steps_per_dispatch(8, 16, 128) == 8


@pytest.fixture
def make_feed(small_store, plan):
    made = []

    def make(first=0, position=None, resident=None, options=OPTIONS, **more):
        where = (first, position, mesh_of(2), resident)
        feed = Feed(small_store, plan, options, STEPS, *where, **more)
        made.append(feed)
        return feed

    yield make
    for feed in made:
        feed.close()


def test_the_host_feed_holds_the_patches_of_the_plan_in_order(make_feed, small_store, plan):
    portions = list(make_feed())
    assert [p.steps for p in portions] == [1] * STEPS
    expected = cut(small_store, plan.examples(0, 4 * STEPS), 16)
    for name in ("image", "label", "seed"):
        batches = [np.asarray(portion.batch[name]) for portion in portions]
        np.testing.assert_array_equal(np.concatenate(batches), expected[name])


def test_the_device_feed_holds_the_positions_of_the_patches(make_feed, small_store, plan):
    resident = DeviceStore(small_store, np.arange(20, 60), mesh_of(2))
    batch = next(make_feed(resident=resident)).batch
    drawn = plan.examples(0, 4)
    np.testing.assert_array_equal(batch["row"], drawn.rows)
    np.testing.assert_array_equal(batch["column"], drawn.columns)
    np.testing.assert_array_equal(batch["seed"], drawn.seeds)
    assert "image" not in batch


def test_several_steps_are_stacked_into_one_portion(make_feed, small_store, plan):
    portions = list(make_feed(dispatch_steps=3))
    assert [p.steps for p in portions] == [3, 3, 1]
    assert [p.batch["image"].shape[:-3] for p in portions] == [(3, 4), (3, 4), (4,)]
    images = [np.asarray(p.batch["image"]).reshape(-1, 16, 16, 4) for p in portions]
    expected = cut(small_store, plan.examples(0, 4 * STEPS), 16)["image"]
    np.testing.assert_array_equal(np.concatenate(images), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_feed_continues_after_the_portion_whose_position_was_saved(make_feed, workers):
    """Although more batches were read ahead, and with another number of loader processes."""
    first = make_feed()
    next(first)
    position = next(first).position
    assert first.position == position
    expected = next(first).batch["image"]
    again = make_feed(2, position, options=dataclasses.replace(OPTIONS, workers=workers))
    np.testing.assert_array_equal(next(again).batch["image"], expected)


def test_a_feed_ends_with_the_last_step(make_feed):
    feed = make_feed()
    assert len(list(feed)) == STEPS
    with pytest.raises(StopIteration):
        next(feed)
