"""Calibration of class probabilities: likelihood, expected calibration error, temperature.

Temperature scaling divides the logits of a model by one number:

    p = softmax(z / T),   T = argmin of the mean of -log p(true class)

It changes no arg-max of one model. The labels of an ensemble may change, because its members
then have other weights in the mean. With the logits (0, z), p is the sigmoid of z / T.

Reference: Guo et al. 2017, https://arxiv.org/abs/1706.04599
"""

import numpy as np
from scipy import optimize, special

BINS = 15
TEMPERATURE_RANGE = (0.05, 20.0)


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the true classes.

        NLL = mean_i -log softmax(z_i)[y_i]

    Args:
      logits: float[n, K].
      labels: int[n], the true classes.

    Returns:
      NLL in nats.
    """
    of_label = np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)[:, 0]
    return float(np.mean(special.logsumexp(logits, axis=1) - of_label))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Difference between confidence and accuracy, averaged over pixels.

        ECE = sum over bins b of (n_b / n) |accuracy_b - mean confidence_b|

    Confidence is the largest probability of a pixel. The 15 bins have equal width over 0..1 and
    include their upper edge.

    Args:
      probabilities: float[n, K]; each row sums to 1.
      labels: int[n], the true classes.

    Returns:
      ECE in 0..1, 0 for a calibrated model; NaN where n is 0.
    """
    if not len(labels):
        return float("nan")
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    which = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(which, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the lowest negative log-likelihood; the problem is convex in 1 / T.

    Args:
      logits: float[n, K].
      labels: int[n], the true classes.

    Returns:
      T in `TEMPERATURE_RANGE`.
    """
    low, high = np.log(TEMPERATURE_RANGE)
    found = optimize.minimize_scalar(
        lambda log_t: negative_log_likelihood(logits / np.exp(log_t), labels),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))
