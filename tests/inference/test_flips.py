"""Averages over flips in evaluation are those of prediction."""

import jax.numpy as jnp
import numpy as np
import prediction_examples as examples
import pytest

from brats_jax import inference
from brats_jax.inference.flips import OverFlips, flipped
from brats_jax.runtime.devices import put_batch

pytestmark = pytest.mark.usefixtures("shallow")


def test_a_flip_reverses_the_axes_that_are_set_and_undoes_itself():
    x = jnp.arange(24.0).reshape(1, 3, 4, 2)
    for flip, expected in (((0, 1), x[:, :, ::-1]), ((1, 0), x[:, ::-1]), ((0, 0), x)):
        found = flipped(x, np.array(flip, bool))
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(flipped(found, np.array(flip, bool)), x)


@pytest.mark.parametrize("task", ["segment", "reconstruct"])
def test_the_averages_of_an_evaluation_are_those_of_predict_with_tta(example_runs, task):
    run = example_runs["volume"] / "run" / "fold_0"
    model = inference.load(run, task=task, tta=True)
    images = model.normalise(model.scan(example_runs["volume"] / "cases" / examples.CASES[1]))
    member = model.trained.members[0]
    x = member.network.task.test_input({"image": jnp.asarray(images)})
    batch = put_batch({"image": np.asarray(x)}, member.network.mesh)["image"]
    flips = OverFlips(member.network)
    if task == "segment":
        labels = model.ensemble.segment(images).labels
        assert (np.asarray(flips.labels(batch)) == labels).mean() > 0.999
        plain = inference.load(run).ensemble.segment(images).labels
        assert (plain != labels).any()
    else:
        found = member.network.prediction(flips.images(batch))
        np.testing.assert_allclose(found, model.ensemble.reconstruct(images), atol=1e-5)
