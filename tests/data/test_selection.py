import numpy as np
import pytest

from brats_jax.data.selection import (
    count_patients,
    note_on_left_out,
    pretraining_slices,
    select_slices,
    unlabelled_slices,
    usable_slices,
)
from brats_jax.data.splits import fold_split, make_splits
from brats_jax.tasks import Pretraining, Segmentation


@pytest.fixture(scope="module")
def splits(mixed_store):
    return make_splits(mixed_store, num_folds=2, test_fraction=0.2, seed=1)


def names_of(store, indices):
    return {store.patients[p] for p in np.unique(store.patient_of[indices])}


def test_smaller_shares_of_the_unlabelled_are_subsets_of_larger_ones(mixed_store, splits):
    split = fold_split(splits, mixed_store, 0)
    before: set[int] = set()
    assert count_patients(mixed_store, split.unlabelled) == 5  # L0 is in training
    for fraction, persons in ((0, 0), (0.2, 1), (0.3, 2), (0.6, 3), (1, 5)):
        found = unlabelled_slices(mixed_store, split.unlabelled, fraction, splits, 0)
        assert count_patients(mixed_store, found) == persons
        assert before <= {*found} and (np.diff(found) > 0).all()
        before = {*found}
    every = pretraining_slices(mixed_store, split, 1, splits, 0)
    np.testing.assert_array_equal(every, np.sort([*split.train, *split.unlabelled]))
    none = pretraining_slices(mixed_store, split, 0, splits, 0)
    np.testing.assert_array_equal(none, split.train)


def test_slices_with_tumour_are_those_of_masks_and_large_ones_of_scans_without(mixed_store):
    found = select_slices(mixed_store, np.arange(mixed_store.num_slices), "tumour")
    of = {
        name: found[mixed_store.patient_of[found] == p]
        for p, name in enumerate(mixed_store.patients)
    }
    for name in ("L0", "Mask", "No T2"):
        own = np.array(mixed_store.slices_of(name))
        np.testing.assert_array_equal(of[name], own[mixed_store.has_tumour[own]])
    area = mixed_store.box[:, 2].astype(int) * mixed_store.box[:, 3]
    for name in ("U0", "U2"):
        own = np.array(mixed_store.slices_of(name))
        expected = own[2 * area[own] >= area[own].max()]
        np.testing.assert_array_equal(of[name], expected)
        assert 0 < len(expected) < 16


def test_a_task_leaves_out_patients_without_its_modalities_and_names_them(mixed_store):
    everything = np.arange(mixed_store.num_slices)
    present = mixed_store.present
    pretext, segment = Pretraining(), Segmentation()
    left = {*mixed_store.patients} - names_of(
        mixed_store, usable_slices(mixed_store, everything, pretext.usable(present))
    )
    assert left == {"U2"}
    usable = segment.usable(present)
    note = note_on_left_out(mixed_store, everything, usable, segment.needs, "training")
    assert note == "2 of 12 training patients left out, without T2 or FLAIR: No T2, U2"
    of_one = np.array(mixed_store.slices_of("No T2"))
    note = note_on_left_out(mixed_store, of_one, usable, segment.needs, "test")
    assert note == "1 of 1 test patient left out, without T2: No T2"
    assert note_on_left_out(mixed_store, of_one, pretext.usable(present), (), "test") == ""
