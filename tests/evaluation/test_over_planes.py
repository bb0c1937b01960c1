"""Labels of some slices, averaged over planes that are cut from whole volumes."""

import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.planes import PLANES
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.over_planes import OverPlanes
from brats_jax.inference.ensemble import Ensemble
from brats_jax.inference.trained_run import open_run
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def member(plane_runs, shallow):
    return open_run(plane_runs["axial"], "segment", data_mesh()).members[0]


@pytest.fixture
def store(plane_runs):
    return Store.open(plane_runs["axial"].parent / "store_axial")


def test_the_mean_of_all_planes_decides_in_batches_of_one_size(member, store):
    first, second = (np.array(store.slices_of(name)) for name in store.patients[:2])
    chosen = np.concatenate([first[1:5], second[2:5]])
    batches = list(OverPlanes(member.network, PLANES, tta=False).labels(store, chosen, 4))
    assert [valid.tolist() for *_, valid in batches] == [[True] * 4, [True] * 3 + [False]]
    found, truth = (np.concatenate([part[which][part[2]] for part in batches]) for which in (0, 1))
    np.testing.assert_array_equal(truth, store.read(chosen)[1])
    expected = []
    for slices in (first, second):
        images, _ = store.read(slices)
        each = [Ensemble([member], flips=False, plane=p).mean_outputs(images)[0] for p in PLANES]
        expected.append(np.mean(each, axis=0).argmax(-1))
    labels = np.concatenate([expected[0][1:5], expected[1][2:5]])
    assert (found == labels).mean() > 0.999  # ties may round otherwise


def test_modalities_that_are_not_given_count_as_zeros(member, store):
    whole = np.array(store.slices_of(store.patients[0]))
    over = OverPlanes(member.network, PLANES, tta=False)
    ((found, *_),) = over.labels(store, whole, len(whole), ("flair", "t1"))
    images, _ = store.read(whole)
    alone = np.where(np.isin(MODALITIES, ("flair", "t1")), images, 0).astype(images.dtype)
    each = [Ensemble([member], flips=False, plane=p).mean_outputs(alone)[0] for p in PLANES]
    assert (found == np.mean(each, axis=0).argmax(-1)).mean() > 0.999
    (every, *_), (part, *_) = (
        next(over.labels(store, whole, len(whole), given)) for given in (None, ("t1",))
    )
    assert (every != part).any()


def test_a_volume_that_lacks_slices_is_refused(member, store):
    store.whole[0] = False
    with pytest.raises(BratsError, match=f"slices of {store.patients[0]} are missing"):
        next(OverPlanes(member.network, PLANES, tta=False).labels(store, np.array([2]), 4))
