import copy

import numpy as np
import pytest

from brats_jax.data.patches import PatchPlan, cut
from brats_jax.data.slice_facts import Donors, SliceFacts
from brats_jax.errors import BratsError


@pytest.fixture
def visits(small_store):
    """The store as if its first two cases were visits of one person."""
    store = copy.copy(small_store)
    store.subjects = ["same", "same", *small_store.subjects[2:]]
    return store


def test_a_donor_is_another_person_and_all_of_their_slices_are_drawn_equally_often(visits):
    pool = np.arange(10, 60)  # of the first four cases
    person = np.array([visits.subjects[p] for p in visits.patient_of])
    slices = np.repeat(pool, 400)
    seeds = np.random.default_rng(0).integers(0, 2**32, len(slices), dtype=np.uint32)
    donors = Donors(visits, pool).of(slices, seeds)
    assert set(donors) == set(pool) and (person[donors] != person[slices]).all()
    _, counts = np.unique(donors[person[slices] == "same"], return_counts=True)
    assert len(counts) == 28 and (abs(counts / counts.mean() - 1) < 0.25).all()
    # A slice outside the pool takes any of it.
    outside = Donors(visits, pool).of(np.full(2000, 100), seeds[:2000])
    assert len(set(outside)) > 45


def test_donors_of_a_single_person_are_refused(visits):
    with pytest.raises(BratsError, match="shuffled takes the target from another person"):
        Donors(visits, np.arange(32))


def test_seeds_of_whole_slices_depend_on_their_names_alone(small_store):
    facts, slices = SliceFacts(small_store, {"seed"}), np.arange(40)
    seeds = facts.of_whole(slices)["seed"]
    assert seeds.dtype == np.uint32 and len(set(seeds.tolist())) == 40
    np.testing.assert_array_equal(facts.of_whole(slices[::-1])["seed"], seeds[::-1])
    renamed = copy.copy(small_store)
    renamed.patients = [f"other {name}" for name in small_store.patients]
    assert (SliceFacts(renamed, {"seed"}).of_whole(slices)["seed"] != seeds).all()


def test_patches_come_with_what_is_wanted(small_store):
    pool = np.arange(20, 60)
    plain, more = (
        PatchPlan(
            small_store, pool, patch_size=16, tumour_probability=0.5, seed=3, facts=facts
        ).examples(0, 8)
        for facts in (None, SliceFacts(small_store, {"background", "donor"}, pool))
    )
    np.testing.assert_array_equal(plain.slices, more.slices)
    assert set(cut(small_store, plain, 16)) == {"image", "label", "seed"}
    batch = cut(small_store, more, 16)
    assert set(batch) == {"image", "label", "seed", "donor", "background", "donor_background"}
    np.testing.assert_array_equal(batch["background"], small_store.background[more.slices])
    np.testing.assert_array_equal(batch["donor_background"], small_store.background[more.donors])
    donors = small_store.windows(more.donors, more.rows, more.columns, (16, 16))[0]
    np.testing.assert_array_equal(batch["donor"], donors)
