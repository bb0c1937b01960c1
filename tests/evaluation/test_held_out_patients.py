"""Held-out patients: the average that predicts them, and their volumes in memory.

tests/evaluation/test_cleaning_fit.py predicts them.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from brats_jax.errors import BratsError
from brats_jax.evaluation.held_out_patients import Average, PackedVolume, Volume, average_of

ALL, TWO = "coronal,axial,sagittal", "coronal,axial"
KNOWN = tuple(ALL.split(","))  # of the training; its store is coronal


def trained_on(planes="", tta=False):
    """A run as far as its averages need it, with these evaluation settings."""
    settings = SimpleNamespace(evaluation=SimpleNamespace(planes=planes, tta=tta))
    document, record = SimpleNamespace(settings=settings), SimpleNamespace(planes=KNOWN)
    return SimpleNamespace(run=Path("run"), document=document, record=record)


@pytest.mark.parametrize(
    ("own", "asked", "found"),
    [
        # As config.evaluation has it.
        (("", False), (None, None), ("", False, "cleaning.json")),
        (("", True), (None, None), ("", True, "cleaning.json")),
        (("all", False), (None, None), (ALL, False, "cleaning.json")),
        # The same, asked for by name.
        (("", False), ("coronal", False), ("", False, "cleaning.json")),
        (("axial,coronal", True), (TWO, None), (TWO, True, "cleaning.json")),
        # Others have files of their own.
        (("", False), ("all", None), (ALL, False, "cleaning_axial_coronal_sagittal.json")),
        (("", False), (None, True), ("", True, "cleaning_coronal_flips.json")),
        (("all", True), ("axial", False), ("axial", False, "cleaning_axial.json")),
        (("all", True), (None, False), (ALL, False, "cleaning_axial_coronal_sagittal.json")),
    ],
)  # fmt: skip
def test_the_average_of_a_fit_and_its_file(own, asked, found):
    planes, tta, name = found
    assert average_of(trained_on(*own), *asked) == Average(planes, tta, Path("run") / name)


def test_planes_of_no_training_are_refused():
    with pytest.raises(BratsError, match="--planes: the run was trained on coronal, axial and sag"):
        average_of(trained_on(), "oblique", None)


def test_a_packed_volume_is_the_same_again():
    rng = np.random.default_rng(0)
    prediction, truth = rng.integers(0, 4, (2, 5, 4, 3)).astype(np.uint8)
    air = rng.random(truth.shape) < 0.5
    found = PackedVolume(Volume(prediction, truth, (1.0, 2.0, 3.0), air)).unpacked()
    np.testing.assert_array_equal(found.prediction, prediction)
    np.testing.assert_array_equal(found.truth, truth)
    np.testing.assert_array_equal(found.air, air & (prediction != 0))
    assert found.spacing_mm == (1.0, 2.0, 3.0) and found.voxel_mm3 == 6
