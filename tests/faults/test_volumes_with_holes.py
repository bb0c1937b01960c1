"""Volumes of which slices are missing: noted, counted, and left out of numbers of whole volumes."""

import numpy as np
import pytest

from brats_jax.data.store.prepare import prepare
from brats_jax.data.store.reader import Store
from brats_jax.data.store.summary import summary_table
from brats_jax.evaluation.conventions import segmentation_scores
from brats_jax.evaluation.scoring import tally_segmentation
from brats_jax.evaluation.slices import describe_slices
from brats_jax.evaluation.tallies import SegmentationTally

SHAPE = (12, 10, 155)


@pytest.fixture(scope="module")
def store(tmp_path_factory, brats_files):
    """Volume 1 is whole, 2 has holes, 3 is a consecutive part."""
    root = tmp_path_factory.mktemp("holes")
    volumes = brats_files.make_case(shape=SHAPE)
    for volume, slices in ((1, range(155)), (2, (60, 61, 80, 81, 90)), (3, range(60, 91))):
        brats_files.write_kaggle(root / "kaggle", volume, volumes, slices=slices)
    prepare(root / "kaggle", root / "store", workers=1)
    return Store.open(root / "store")


def tally_of(store, over):
    indices = np.arange(store.num_slices)
    if over == "tumour":
        indices = np.flatnonzero(store.has_tumour)
    labels = store.read(indices)[1]
    slices = describe_slices(store, indices, over)
    spacing = np.ones((len(slices.patients), 3), np.float32)
    batches = [(labels, labels, np.ones(len(labels), bool))]
    return tally_segmentation(batches, slices, store.slice_shape, spacing, 1.0)


def test_holes_are_noted_at_preparation(store):
    assert store.whole.tolist() == [True, False, False]
    notes = store.manifest.notes
    assert "150 of 155 slices are missing (0 to 59, 62 to 79" in notes["BraTS20_Training_002"][0]
    assert "124 of 155 slices" in notes["BraTS20_Training_003"][0] and len(notes) == 2
    assert store.manifest.summary.with_holes == 2
    assert "2 of 3 volumes: slices are missing" in summary_table(store.path, store.manifest)


def test_holes_are_left_out_of_volumes_and_of_all_slices(store):
    tally = tally_of(store, "all")
    for score in segmentation_scores(tally):
        if score.over == "volumes":
            assert score.patient.tolist() == [0]
        elif score.over == "all slices":
            assert set(score.by_patient()) <= {0} and score.count() <= 155
        else:
            assert set(score.patient) == {0, 1, 2}


def test_tumour_slices_of_all_patients_count_where_only_they_are_scored(store):
    scores = list(segmentation_scores(tally_of(store, "tumour")))
    wt = next(s for s in scores if s.of == "WT" and s.metric == "dice" and s.over == "all slices")
    assert set(wt.patient) == {0, 1, 2} and wt.count() == store.has_tumour.sum()


def test_tallies_keep_the_holes_and_earlier_ones_are_judged_by_their_numbers(store, tmp_path):
    tally = tally_of(store, "all")
    tally.save(tmp_path / "tally.npz", {})
    read, _ = SegmentationTally.load(tmp_path / "tally.npz")
    assert read.slices.holes.tolist() == [False, True, True]
    arrays = dict(np.load(tmp_path / "tally.npz"))
    del arrays["slices.holes"]
    arrays["slices.whole"] = np.array([True, True, False])
    np.savez(tmp_path / "earlier.npz", **arrays)
    earlier, _ = SegmentationTally.load(tmp_path / "earlier.npz")
    assert earlier.slices.whole.tolist() == [True, False, False]
    assert earlier.slices.left_out.sum() == 5
