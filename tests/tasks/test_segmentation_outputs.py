"""Channels become labels and probabilities of classes, by hand."""

import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from brats_jax.data.modalities import REGIONS
from brats_jax.metrics.calibration import negative_log_likelihood
from brats_jax.tasks.segmentation_outputs import DEFAULT_OUTPUTS, OUTPUTS, outputs_named

REGION = OUTPUTS["regions"]

# Whether p > 0.5 for WT, TC and ET -> the label: ET lies in TC, TC in WT.
NESTED = {
    (0, 0, 0): 0, (0, 0, 1): 0, (0, 1, 0): 0, (0, 1, 1): 0,
    (1, 0, 0): 2, (1, 0, 1): 2, (1, 1, 0): 1, (1, 1, 1): 3,
}  # fmt: skip


def test_a_pixel_takes_the_innermost_region_that_lies_in_all_outer_ones():
    inside = np.array(list(NESTED), np.float32)
    expected = list(NESTED.values())
    assert REGION.labels_of_logits(jnp.asarray(inside - 0.5)).tolist() == expected
    p = 0.2 + 0.6 * inside
    assert REGION.labels(jnp.asarray(p)).tolist() == expected
    assert REGION.labels(jnp.asarray(3 * p), 3).tolist() == expected


def test_probabilities_of_classes_add_up_to_one_and_to_the_nested_regions():
    p = np.array(list(itertools.product([0.1, 0.4, 0.9], repeat=3)), np.float32)
    found = np.asarray(REGION.class_probabilities(jnp.asarray(p)))
    assert found.shape == (27, 4) and (found >= 0).all()
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-6)
    nested = np.minimum.accumulate(p, axis=-1)
    for k, values in enumerate(REGIONS.values()):
        np.testing.assert_allclose(found[:, list(values)].sum(-1), nested[:, k], atol=1e-6)
    # Background 0.1, NCR/NET 0.5, ED 0, ET 0.4: TC is not more probable than WT.
    by_hand = REGION.class_probabilities(jnp.array([0.9, 0.95, 0.4]))
    np.testing.assert_allclose(by_hand, [0.1, 0.5, 0, 0.4], atol=1e-6)


def test_the_likelihood_of_regions_is_that_of_their_sigmoids():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 2, (50, 3)), rng.integers(0, 4, 50)
    truth = np.stack([np.isin(labels, values) for values in REGIONS.values()], axis=-1)
    expected = optax.sigmoid_binary_cross_entropy(jnp.asarray(logits), jnp.asarray(truth)).mean()
    choices = REGION.choices(logits, labels)
    assert negative_log_likelihood(*choices) == pytest.approx(float(expected), rel=1e-5)


def test_channels_tell_what_they_are():
    assert DEFAULT_OUTPUTS == "classes"
    for name, outputs in OUTPUTS.items():
        assert outputs_named(outputs.channels) == name
    with pytest.raises(LookupError, match="no segmentation has the channels ET, TC, WT"):
        outputs_named(("ET", "TC", "WT"))
