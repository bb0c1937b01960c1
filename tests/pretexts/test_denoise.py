import jax.numpy as jnp
import numpy as np
import pytest

from brats_jax.pretexts import PRETEXTS, Options


def test_noise_of_the_strength_asked_for_is_added_to_the_input_alone():
    pretext = PRETEXTS["denoise"]((0, 1), (3,), Options(noise=0.3))
    images = jnp.full((3, 32, 32, 2), 2.0)
    present = np.array([[1, 1], [1, 0], [1, 1]], bool)
    example = pretext.example(images, images, present, present, np.uint32([1, 2, 2]))
    noise = np.asarray(example.input - images)
    assert noise[0].std() == pytest.approx(0.3, rel=0.1)
    assert (noise[0] != noise[2]).all() and not noise[1, ..., 1].any()
    np.testing.assert_array_equal(noise[1, ..., 0], noise[2, ..., 0])  # of one seed
    assert example.target is images
