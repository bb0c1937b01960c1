import jax
import numpy as np

from brats_jax.pretexts import PRETEXTS
from brats_jax.pretexts.base import keys_of


def test_every_seed_has_its_own_key_also_beside_others():
    alone = [np.asarray(jax.random.key_data(keys_of(np.uint32([seed])))) for seed in (0, 1, 7)]
    together = np.asarray(jax.random.key_data(keys_of(np.uint32([0, 1, 7]))))
    np.testing.assert_array_equal(np.concatenate(alone), together)
    assert len(np.unique(together, axis=0)) == 3


def test_patients_are_usable_if_they_have_what_a_pretext_needs():
    """Of all; all but FLAIR; T2 alone; none."""
    present = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]], bool)
    expected = {
        "cross_modality": [True, False, False, False],
        "shuffled": [True, False, False, False],
        "autoencode": [True, True, False, False],
        "denoise": [True, True, False, False],
        "any_to_any": [True, True, True, False],
        "masked": [True, True, True, False],
    }
    assert expected.keys() == PRETEXTS.keys()
    for name, usable in expected.items():
        assert PRETEXTS[name]((0, 1), (3,)).usable(present).tolist() == usable, name
