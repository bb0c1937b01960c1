"""Image quality of the predicted modalities."""

import jax.numpy as jnp
import numpy as np

from brats_jax.evaluation.image_scoring import over_modalities


def test_the_numbers_of_the_only_modality_are_those_of_the_prediction():
    mse = jnp.array([1.0, 2.0])
    assert over_modalities({"flair": {"brain/mse": mse}}) == {"brain/mse": mse}


def test_several_modalities_have_their_mean_where_it_is_defined():
    found = over_modalities({
        "t2": {"tumour/mse": jnp.array([1.0, jnp.nan, jnp.nan])},
        "flair": {"tumour/mse": jnp.array([3.0, 5.0, jnp.nan])},
    })  # fmt: skip
    assert set(found) == {"tumour/mse", "t2 tumour/mse", "flair tumour/mse"}
    np.testing.assert_array_equal(found["tumour/mse"], [2.0, 5.0, np.nan])
