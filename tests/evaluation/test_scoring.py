"""One pass over a test set: every slice is counted once, and whole volumes are scored in 3D."""

import numpy as np
import pytest
from tally_examples import slices_of, tally_of, two_patients

from brats_jax.evaluation.scoring import tally_segmentation
from brats_jax.evaluation.tallies import LESION_FIELDS, LESION_REGIONS, SCORED

ED = list(SCORED).index("ED")


def test_the_slices_that_fill_up_a_batch_are_not_counted():
    """Five slices in batches of four: the second batch repeats the first slice three times."""
    prediction, truth, sizes = two_patients()
    tally = tally_of(prediction, truth, sizes)
    assert tally.counts.shape == (5, len(SCORED), 3)
    # Slice 1: 16 pixels of ED found; slice 2: 12 found, 4 of NCR taken for ED.
    assert tally.counts[:, ED].tolist() == [[0, 0, 0], [16, 0, 0], [12, 4, 0], [0, 0, 0], [0, 0, 0]]


def test_the_size_of_the_batches_changes_nothing():
    prediction, truth, sizes = two_patients()
    described = slices_of(sizes, truth.any(axis=(1, 2)), [True, True])
    spacing = np.ones((2, 3), np.float32)
    valid = np.ones(5, bool)
    whole = tally_segmentation([(prediction, truth, valid)], described, (8, 8), spacing, 1.0)
    parts = tally_of(prediction, truth, sizes)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    np.testing.assert_array_equal(whole.lesions, parts.lesions)
    for a, b in zip(whole.volume_surface, parts.volume_surface, strict=True):
        np.testing.assert_array_equal(a, b)


def test_volumes_with_missing_slices_have_no_scores_in_3d():
    prediction, truth, sizes = two_patients()
    tally = tally_of(prediction, truth, sizes, whole=[True, False])
    dice = tally.lesions[:, LESION_REGIONS.index("WT"), LESION_FIELDS.index("dice")]
    assert dice[0] == pytest.approx(1.0) and np.isnan(dice[1])
    assert np.isnan(tally.surfels[1]).all()
    assert not np.asarray(tally.volume_surface.n_gt)[1, 1:].any()  # but for the background
