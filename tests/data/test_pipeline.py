import json

import numpy as np
import pytest

from brats_jax.data.patches import PatchPlan, cut
from brats_jax.data.pipeline import TrainingBatches

STEPS, BATCH, SIZE = 12, 4, 32


@pytest.fixture
def plan(small_store):
    return PatchPlan(
        small_store,
        np.arange(small_store.num_slices),
        patch_size=SIZE,
        tumour_probability=0.5,
        seed=1,
    )


def batches_of(store, plan, **options):
    return TrainingBatches(store, plan, patch_size=SIZE, batch_size=BATCH, steps=STEPS, **options)


def same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_plan_in_order(small_store, plan, workers):
    loader = batches_of(small_store, plan, workers=workers)
    batches = [next(loader) for _ in range(STEPS)]
    with pytest.raises(StopIteration):
        next(loader)
    loader.close()
    for step, batch in enumerate(batches):
        same(batch, cut(small_store, plan.examples(step * BATCH, BATCH), SIZE))
        # Not in the shared memory of the workers, which this process would have to free.
        assert all(type(values) is np.ndarray for values in batch.values())


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 0)])
def test_another_number_of_workers_continues_at_the_same_step(small_store, plan, before, after):
    loader = batches_of(small_store, plan, workers=before)
    for _ in range(5):
        next(loader)
    again = batches_of(small_store, plan, workers=after)
    again.set_state(loader.get_state(), 5)
    same(next(again), next(loader))
    state = again.get_state()
    third = batches_of(small_store, plan, workers=after)
    third.set_state(state, 6)
    same(next(third), next(loader))
    for one in (loader, again, third):
        one.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_position_survives_json_although_more_was_read_ahead(small_store, plan, workers):
    loader = batches_of(small_store, plan, workers=workers)
    for _ in range(5):
        next(loader)
    state = json.loads(json.dumps(loader.get_state()))
    expected = [next(loader) for _ in range(3)]
    again = batches_of(small_store, plan, workers=workers)
    again.set_state(state, 5)
    for batch in expected:
        same(next(again), batch)
    loader.close()
    again.close()


def test_batch_has_the_documented_shapes(small_store, plan):
    loader = batches_of(small_store, plan)
    batch = next(loader)
    assert batch["image"].shape == (BATCH, SIZE, SIZE, 4) and batch["image"].dtype == np.float16
    assert batch["label"].shape == (BATCH, SIZE, SIZE) and batch["label"].dtype == np.uint8
    assert batch["seed"].shape == (BATCH,) and batch["seed"].dtype == np.uint32
    loader.close()
