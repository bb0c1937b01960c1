import jax.numpy as jnp
import numpy as np

from brats_jax.pretexts import PRETEXTS

PRETEXT = PRETEXTS["any_to_any"]((0, 1), (3,))


def kept(present, seeds):
    """bool[B, 4]: the modalities that stay in the input."""
    images = jnp.ones((len(seeds), 2, 2, 4))
    example = PRETEXT.example(images, images, present, present, seeds)
    values = np.asarray(example.input)
    assert (values == values[:, :1, :1]).all() and set(np.unique(values)) <= {0.0, 1.0}
    assert example.target is images
    return values[:, 0, 0] == 1, example.weight


def test_every_part_of_four_modalities_is_drawn_equally_often_but_never_none():
    found, weight = kept(None, np.arange(3000, dtype=np.uint32))
    assert weight is None and found.any(axis=1).all()
    _, counts = np.unique(found, axis=0, return_counts=True)
    assert len(counts) == 15 and (abs(counts - 200) < 5 * np.sqrt(200)).all()


def test_only_what_a_patient_has_is_kept_and_counts():
    present = np.tile([[True, False, True, False], [False, False, False, True]], (100, 1))
    found, weight = kept(present, np.arange(200, dtype=np.uint32))
    assert found.any(axis=1).all() and not (found & ~present).any()
    assert len(np.unique(found[::2], axis=0)) == 3
    np.testing.assert_array_equal(weight[:, 0, 0], present)


def test_it_is_tested_on_the_configured_inputs_and_target():
    images = jnp.ones((2, 2, 2, 4))
    example = PRETEXT.test_example(images, images, None, None, None)
    np.testing.assert_array_equal(example.input[:, 0, 0], [[1, 1, 0, 0]] * 2)
    assert PRETEXT.tested == PRETEXT.synthetic == (3,)
