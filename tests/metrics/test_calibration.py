"""Calibration of probabilities: values by hand, and labels drawn at a known temperature."""

import numpy as np
import pytest
from scipy import special

from brats_jax.metrics import calibration


def test_expected_calibration_error_by_hand():
    """Four pixels at 0.95, half of them wrong; two at 0.6, both right."""
    p = np.array([[0.95, 0.05]] * 4 + [[0.4, 0.6]] * 2)
    labels = np.array([0, 0, 1, 1, 1, 1])
    expected = 4 / 6 * abs(0.5 - 0.95) + 2 / 6 * abs(1 - 0.6)
    assert calibration.expected_calibration_error(p, labels) == pytest.approx(expected)
    assert calibration.expected_calibration_error(np.eye(2), np.array([0, 1])) == 0


def test_expected_calibration_error_of_no_pixels_is_nan():
    assert np.isnan(calibration.expected_calibration_error(np.zeros((0, 2)), np.zeros(0, int)))


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(truth):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 4))
    p = special.softmax(logits / truth, axis=1)
    labels = (p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1)
    found = calibration.fit_temperature(logits, labels)
    assert found == pytest.approx(truth, rel=0.07)
    others = [
        calibration.negative_log_likelihood(logits / t, labels) for t in np.geomspace(0.1, 10, 50)
    ]
    assert calibration.negative_log_likelihood(logits / found, labels) <= min(others) + 1e-6
    scaled = special.softmax(logits / found, axis=1)
    assert calibration.expected_calibration_error(scaled, labels) < 0.02
    if truth != 1:
        assert calibration.expected_calibration_error(special.softmax(logits, axis=1), labels) > 0.1


def test_likelihood_by_hand():
    logits = np.log([[0.7, 0.3], [0.2, 0.8]])
    expected = -(np.log(0.7) + np.log(0.2)) / 2
    found = calibration.negative_log_likelihood(logits, np.array([0, 0], np.uint8))
    assert found == pytest.approx(expected)
