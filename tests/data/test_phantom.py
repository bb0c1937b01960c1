"""The phantom is deterministic, labelled like BraTS, and looks like it to a statistician."""

import pickle

import numpy as np
import pytest

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.phantom import PhantomSource
from brats_jax.data.source import Case
from brats_jax.errors import BratsError

SHAPE = (52, 80, 80)  # voxels of 3 mm
T1, T1GD, T2, FLAIR = (MODALITIES.index(m) for m in ("t1", "t1gd", "t2", "flair"))


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    source = PhantomSource(8, seed=3, shape=SHAPE)
    return [source.read(patient) for patient in source.patients()]


def test_a_case_is_what_a_source_promises(cases):
    case = cases[0]
    assert case.patient == "Phantom_001"
    assert case.images.shape == (*SHAPE, 4) and case.images.dtype == np.float32
    assert case.labels.shape == SHAPE and case.labels.dtype == np.uint8
    assert case.slice_numbers.tolist() == list(range(SHAPE[0]))
    assert case.spacing_mm == pytest.approx((3.0, 3.0, 155 / 52))
    # LPS voxels in RAS millimetres: x and y count down.
    assert np.diag(case.affine) == pytest.approx((-3.0, -3.0, 155 / 52, 1.0))


def test_a_patient_depends_on_seed_and_position_alone(cases):
    again = pickle.loads(pickle.dumps(PhantomSource(5, seed=3, shape=SHAPE)))
    third = again.read("Phantom_003")  # not read after its predecessors, in a smaller set
    assert np.array_equal(third.images, cases[2].images)
    assert np.array_equal(third.labels, cases[2].labels)
    other = PhantomSource(5, seed=4, shape=SHAPE).read("Phantom_003")
    assert not np.array_equal(other.labels, third.labels)
    assert not np.array_equal(cases[0].labels, cases[1].labels)


def test_background_is_zero_and_the_brain_is_whole_numbers(cases):
    for case in cases:
        brain = (case.images != 0).all(-1)
        assert np.array_equal(brain, (case.images != 0).any(-1))
        assert not case.labels[~brain].any()
        assert np.array_equal(case.images, np.round(case.images))
        assert case.images[brain].min() > 0 and case.images.max() <= 32767


def test_one_patient_in_eight_has_no_enhancing_tumour(cases):
    present = [set(np.unique(case.labels)) for case in cases]
    assert all(labels >= {0, 1, 2} and labels <= {0, 1, 2, 3} for labels in present)
    without = [case for case, labels in zip(cases, present, strict=True) if 3 not in labels]
    assert len(without) == 1 and without[0].notes == ("no ET",)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"patients": 0}, "at least 1"),
        ({"patients": 1, "seed": -1}, "negative"),
        ({"patients": 1, "shape": (8, 64, 64)}, "three sizes"),
    ],
)
def test_refuses_what_cannot_be_made(arguments, message):
    with pytest.raises(BratsError, match=message):
        PhantomSource(**arguments)


def test_names_the_patients_there_are():
    with pytest.raises(BratsError, match="Phantom_001 to Phantom_002"):
        PhantomSource(2).read("Phantom_003")
