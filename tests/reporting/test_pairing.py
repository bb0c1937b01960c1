"""Pairs of patients: runs averaged inside a patient, only runs and patients that both have."""

import math

import numpy as np
import pytest

from brats_jax.errors import BratsError
from brats_jax.reporting.pairing import paired_by_patient


def test_runs_are_averaged_inside_a_patient():
    paired = paired_by_patient(
        {"p1": [0.2, 0.4, 0.6], "p2": [0.5, 0.5, 0.8]}, {"p2": [0.1, 0.2, 0.3], "p1": [1, 1, 1]}
    )
    assert paired.patients == ("p1", "p2")
    np.testing.assert_allclose(paired.a, [0.4, 0.6])
    np.testing.assert_allclose(paired.b, [1.0, 0.2])
    assert paired.left_out == () and paired.runs_left_out == 0


def test_a_run_undefined_on_one_side_is_left_out_of_both():
    nan = math.nan
    paired = paired_by_patient({"p": [0.2, nan, 0.6, nan]}, {"p": [0.1, 0.9, nan, nan]})
    np.testing.assert_allclose([paired.a, paired.b], [[0.2], [0.1]])
    assert paired.runs_left_out == 2  # 0.9 and 0.6


def test_runs_by_name_need_not_be_the_same_ones():
    paired = paired_by_patient(
        {"p": {(0, 0): 0.2, (1, 0): 0.4, (2, 0): 0.9}}, {"p": {(1, 0): 0.5, (0, 0): 0.1}}
    )
    np.testing.assert_allclose([paired.a, paired.b], [[0.3], [0.3]])
    assert paired.runs_left_out == 1


def test_patients_without_a_pair_are_named():
    nan = math.nan
    paired = paired_by_patient(
        {"both": [1.0], "only a": {0: 1.0}, "undefined": [nan]},
        {"undefined": [2.0], "both": [3.0], "only b": {0: 1.0}},
    )
    assert paired.patients == ("both",)
    assert paired.left_out == ("only a", "undefined", "only b")
    # The patient that both name, but one without a number, has no run either.
    assert paired.runs_left_out == 0


def test_nobody_to_pair():
    paired = paired_by_patient({}, {})
    assert paired.patients == () and len(paired.a) == len(paired.b) == 0


def test_sequences_of_different_lengths_cannot_be_paired():
    with pytest.raises(BratsError, match="patient p7 has 2 values against 3"):
        paired_by_patient({"p7": [1.0, 2.0]}, {"p7": [1.0, 2.0, 3.0]})
