"""Which slices stand beside a slice, and the names of their channels."""

import numpy as np
import pytest

from brats_jax.data.neighbours import (
    Neighbours,
    blank_slices,
    canonical_channel,
    channel_names,
    in_scan,
    offsets,
    stacked,
)
from brats_jax.data.patches import cut
from brats_jax.data.slice_facts import SliceFacts
from brats_jax.data.whole_slices import whole_slice_batches
from brats_jax.errors import BratsError


def test_channels_are_named_slice_by_slice_the_nearest_first():
    assert offsets(0) == () and offsets(2) == (-1, 1, -2, 2)
    assert channel_names(("t1", "flair"), 0) == ("t1", "flair")
    expected = ("t1", "flair", "t1@-1", "flair@-1", "t1@+1", "flair@+1")
    assert channel_names(("t1", "flair"), 1) == expected
    assert canonical_channel("T1ce@-1") == "t1gd@-1" and canonical_channel("T2w") == "t2"
    with pytest.raises(BratsError, match="unknown modality 'ct'"):
        canonical_channel("ct@+1")


def test_at_the_ends_of_a_patient_the_nearest_slice_stands_in():
    """Patient 0 has the slices 0 to 2, patient 1 the slices 0 and 1, by hand."""
    patients, numbers = np.array([0, 0, 0, 1, 1], np.int32), np.array([0, 1, 2, 0, 1], np.int16)
    found = Neighbours(patients, numbers).of(np.arange(5), 2)
    assert found.tolist() == [
        [0, 1, 0, 2], [0, 2, 0, 2], [1, 2, 0, 2],
        [3, 4, 3, 4], [3, 4, 3, 4],
    ]  # fmt: skip
    np.testing.assert_array_equal(found[:3], in_scan(np.arange(3), 3, 2))


def test_a_missing_slice_is_replaced_by_the_one_nearest_to_its_place():
    """Slices 3, 4, 7 and 9: of two at one distance the one nearer to the slice itself."""
    of = Neighbours(np.zeros(4, np.int32), np.array([3, 4, 7, 9], np.int16)).of
    assert of(np.array([1]), 1).tolist() == [[0, 1]]  # 5 is nearest to 4 itself
    assert of(np.array([2]), 2).tolist() == [[2, 2, 1, 3]]  # 6: 7; 8: 7; 5: 4; 9: 9
    assert of(np.array([3]), 2).tolist() == [[3, 3, 2, 3]]  # 8: 9 before 7; 7: 7


def test_no_patient_reads_slices_of_another_one(small_store):
    every = np.arange(small_store.num_slices)
    beside = small_store.neighbours(every, 2)
    patient = small_store.patient_of
    assert (patient[beside] == patient[:, None]).all()
    for name in small_store.patients[:2]:
        mine = np.array(small_store.slices_of(name))
        np.testing.assert_array_equal(beside[mine], mine[0] + in_scan(mine - mine[0], len(mine), 2))


def test_patches_and_whole_slices_have_the_same_neighbours(small_store):
    facts, slices = SliceFacts(small_store, context=1), np.array([0, 15, 16, 40])
    (whole,) = whole_slice_batches(small_store, slices, 4, facts=facts)
    images = small_store.read(np.arange(small_store.num_slices))[0]
    assert whole["neighbours"].shape == (4, 48, 48, 8)
    for k, (below, above) in enumerate([(0, 1), (14, 15), (16, 17), (39, 41)]):
        expected = np.concatenate([images[below], images[above]], axis=-1)
        np.testing.assert_array_equal(whole["neighbours"][k], expected)
    np.testing.assert_array_equal(whole["neighbours"][3], stacked(images, np.array([[39, 41]]))[0])
    assert facts.with_neighbours(np.array([16, 40])).tolist() == [16, 17, 39, 40, 41]
    assert "neighbours" not in next(whole_slice_batches(small_store, slices, 4))


def test_a_patch_of_a_neighbour_lies_at_the_place_of_the_patch(small_store, context_plan):
    drawn = context_plan.examples(0, 12)
    batch = cut(small_store, drawn, 16)
    images = small_store.read(np.arange(small_store.num_slices))[0]
    for k, (row, column) in enumerate(zip(drawn.rows, drawn.columns, strict=True)):
        place = (slice(row, row + 16), slice(column, column + 16))
        near = [images[index][place] for index in drawn.neighbours[k]]
        np.testing.assert_array_equal(batch["neighbours"][k], np.concatenate(near, axis=-1))
        np.testing.assert_array_equal(batch["image"][k], images[drawn.slices[k]][place])


def test_a_blank_slice_beside_the_brain_is_not_blank_with_a_context():
    images = np.zeros((6, 2, 2, 4))
    images[3, 0, 0, 1] = 1
    assert blank_slices(images, 0).tolist() == [0, 1, 2, 4, 5]
    assert blank_slices(images, 1).tolist() == [0, 1, 5]
