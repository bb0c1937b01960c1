import jax.numpy as jnp
import numpy as np

from brats_jax.pretexts import PRETEXTS

INPUTS, TARGETS = jnp.ones((2, 4, 4, 2)), jnp.zeros((2, 4, 4, 2))


def test_inputs_and_targets_stay_as_they_are_and_all_counts():
    example = PRETEXTS["cross_modality"]((0, 1), (3, 2)).example(INPUTS, TARGETS, None, None, None)
    assert example.input is INPUTS and example.target is TARGETS and example.weight is None


def test_neither_missing_targets_nor_patients_without_an_input_count():
    given, wanted = np.array([[1, 1], [1, 0]], bool), np.array([[1, 0], [1, 1]], bool)
    example = PRETEXTS["cross_modality"]((0, 1), (3, 2)).example(
        INPUTS, TARGETS, given, wanted, None
    )
    assert example.weight[:, 0, 0].tolist() == [[1, 0], [0, 0]]
