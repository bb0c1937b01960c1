"""Numbers of patients and trainings, by hand and against a simulation."""

import numpy as np
import pytest

from brats_jax.reporting.power import least_trainings, patients_needed, statement
from brats_jax.reporting.training_variance import Components, components


def found(patients=0.05, trainings=0.01, rest=0.0, of_trainings=5):
    return Components(patients, trainings, rest, 20, of_trainings)


def test_the_number_of_patients_is_that_of_the_formula():
    """(1.95996 + 0.84162)^2 = 7.8489; without trainings 7.8489 * 0.05^2 / 0.01^2 = 196.2."""
    assert patients_needed(found(trainings=0.0), 1) == 197
    # 0.01^2 / 7.8489 - 0.01^2 / 10 = 2.74e-6, and 0.05^2 / 2.74e-6 = 912.
    assert patients_needed(found(), 10) == pytest.approx(912, abs=1)
    # With seven trainings their variance alone, 0.01^2 / 7, is more than 0.01^2 / 7.8489.
    assert patients_needed(found(), 7) is None and patients_needed(found(), 8) is not None
    assert least_trainings(found()) == 8 and least_trainings(found(trainings=0.0)) == 1


def test_of_a_few_patients_nothing_is_claimed():
    few = Components(0.0, 0.0, 0.0, 5, 5)
    assert "5 patients and 5 trainings of each model are too few to tell" in statement(few, "WT")
    assert "too few" not in statement(few._replace(of_patients=6), "WT")


def test_studies_of_that_size_find_the_gain_in_four_of_five():
    """A simulation with the true components; a z test, as the formula has it."""
    rng = np.random.default_rng(0)
    true, trainings, gain = found(0.03, 0.01, 0.02), 12, 0.01
    patients = patients_needed(true, trainings, gain)
    hits = 0
    error = np.sqrt(0.03**2 / patients + 0.01**2 / trainings + 0.02**2 / (patients * trainings))
    for _ in range(400):
        table = gain + rng.normal(0, 0.03, (patients, 1)) + rng.normal(0, 0.01, trainings)
        table = table + rng.normal(0, 0.02, (patients, trainings))
        hits += abs(table.mean()) > 1.96 * error
    assert hits / 400 == pytest.approx(0.8, abs=0.06)


def test_components_are_those_that_the_values_were_drawn_with():
    rng = np.random.default_rng(1)
    table = rng.normal(0, 0.3, (400, 1)) + rng.normal(0, 0.2, 60) + rng.normal(0, 0.1, (400, 60))
    estimate = components(table, list(range(60)))
    assert estimate[:3] == pytest.approx((0.3, 0.2, 0.1), rel=0.2)
    assert (estimate.of_patients, estimate.of_trainings) == (400, 60)
    alone = components(table[:, :1], [0])
    assert alone.trainings is None and alone.patients == pytest.approx(np.std(table[:, 0], ddof=1))
    assert components(table[:1], list(range(60))) is None


def test_the_statement_says_what_it_is_estimated_from_and_what_one_training_cannot_tell():
    words = statement(found(of_trainings=2), "WT")
    assert "with fewer than 8 trainings no number of patients does" in words
    assert f"{patients_needed(found(), 10)} patients with 10 trainings" in words
    assert "so the numbers are rough" in words
    assert "rough" not in statement(found(), "WT")
    single = statement(found(trainings=None, of_trainings=1), "WT")
    assert "197 patients would show a gain of 0.01 for this training only" in single
