import jax
import jax.numpy as jnp
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


def test_what_is_done_to_a_modality_is_done_to_its_neighbours():
    """Three equal slices: hidden and left out alike, but with noise of their own."""
    images = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (6, 32, 32, 4)), jnp.float32)
    seeds = np.arange(6, dtype=np.uint32)
    given = np.ones((6, 4), bool)
    given[:3, 2] = False
    for name in ("any_to_any", "masked", "denoise"):
        places = ((0, 1, 2, 3), (0, 1, 2, 3))
        one, three = (PRETEXTS[name](*places, slices=slices) for slices in (1, 3))
        stacked = jnp.concatenate([images] * 3, axis=-1)
        for make in ("example", "test_example")[: 2 if name == "any_to_any" else 1]:
            alone = getattr(one, make)(images, images, given, given, seeds)
            found = getattr(three, make)(stacked, images, given, given, seeds)
            own, *others = np.split(np.asarray(found.input), 3, axis=-1)
            np.testing.assert_array_equal(found.weight, alone.weight)
            np.testing.assert_array_equal(found.target, images)
            if name != "denoise":
                np.testing.assert_array_equal(own, alone.input)
            for other in others:
                assert (other == own).all() != (name == "denoise")
                if name == "denoise":  # what a patient lacks has no noise in any slice
                    np.testing.assert_array_equal(other[:3, ..., 2], images[:3, ..., 2])
