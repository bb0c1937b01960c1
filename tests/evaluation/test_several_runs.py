"""Runs of several planes, scored together on the patients that none has trained on."""

import numpy as np
import prediction_examples as examples
import pytest

from brats_jax.data.modalities import channel_indices
from brats_jax.data.splits import fold_split
from brats_jax.data.store.reader import Store
from brats_jax.errors import BratsError
from brats_jax.evaluation import several_runs
from brats_jax.evaluation.scoring import score_segmentation
from brats_jax.inference.trained_run import open_run
from brats_jax.runs.folder import RunFolder
from brats_jax.runtime.devices import data_mesh

pytestmark = pytest.mark.usefixtures("shallow")


def test_held_out_patients_are_scored_alike_in_every_plane(plane_runs):
    """In 3D as by the evaluation of the run itself; the test set is that of the fold."""
    opened = several_runs.open_runs(
        [RunFolder(plane_runs[p]) for p in ("axial", "coronal")], data_mesh()
    )
    assert several_runs.common_folds(opened) == [0]
    labels = several_runs.predict(opened, 0, tta=False)
    found = several_runs.tally(labels, tolerance_mm=1.0)
    a, c = (str(plane_runs[plane]) for plane in ("axial", "coronal"))
    assert list(found) == [a, c, several_runs.MEAN]
    one, tested = opened[1], set(opened[0].splits.folds[0])
    test = fold_split(one.splits, one.store, 0).test
    alone = score_segmentation(one.trained.members[0].network, one.store, test, 8, 1.0)
    assert set(found[c].slices.patients) == tested == set(alone.slices.patients)
    for name in ("surfels", "lesions"):
        np.testing.assert_allclose(getattr(found[c], name), getattr(alone, name), rtol=1e-5)
    total = found[c].counts.sum(axis=0)
    np.testing.assert_array_equal(total, alone.counts.sum(axis=0))
    assert (found[several_runs.MEAN].counts != found[a].counts).any()


def test_a_patient_who_lacks_a_modality_that_a_run_needs_is_left_out(plane_runs):
    """As in the evaluation of the run: the network has not learned to do without it."""
    opened = several_runs.open_runs(
        [RunFolder(plane_runs[p]) for p in ("axial", "coronal")], data_mesh()
    )
    needed = channel_indices(opened[1].trained.task.inputs)[0]
    (tested,) = opened[0].splits.folds[0]
    opened[1].store.present[opened[1].store.patients.index(tested), needed] = False
    with pytest.raises(BratsError, match="fold 0: no whole volume with labels"):
        several_runs.predict(opened, 0, tta=False)


def test_runs_with_other_splits_or_stores_are_not_scored_together(plane_runs, tmp_path):
    store = Store.open(plane_runs["axial"].parent / "store_axial")
    changes = {"data__test_fraction": 0.0, "folds": (0,), "data__split_seed": 3}
    other = examples.write_run(tmp_path / "other", store, weights=7, **changes)
    both = [RunFolder(plane_runs["coronal"]), RunFolder(other)]
    with pytest.raises(BratsError, match="was trained on other splits than"):
        several_runs.open_runs(both, data_mesh())
    with pytest.raises(BratsError, match="give two runs or more"):
        several_runs.open_runs(both[:1], data_mesh())
    assert open_run(other, "segment", data_mesh()).record.plane == "axial"
