"""Labels of some slices, averaged over planes that are cut from whole volumes."""

import numpy as np
import pytest

from brats_jax.data.planes import PLANES
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation.over_planes import labels_over_planes
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
    batches = list(labels_over_planes(member.network, store, chosen, 4, PLANES, tta=False))
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


def test_a_volume_that_lacks_slices_is_refused(member, store):
    store.whole[0] = False
    with pytest.raises(BratsError, match=f"slices of {store.patients[0]} are missing"):
        next(labels_over_planes(member.network, store, np.array([2]), 4, PLANES, tta=False))
