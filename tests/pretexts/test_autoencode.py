import jax.numpy as jnp
import numpy as np

from brats_jax.pretexts import PRETEXTS


def test_input_and_target_are_the_configured_inputs():
    pretext = PRETEXTS["autoencode"]((2, 0), (3,))
    assert pretext.reads == pretext.predicts == (2, 0) and pretext.synthetic == ()
    images = jnp.ones((2, 4, 4, 2))
    present = np.array([[1, 0], [1, 1]], bool)
    example = pretext.example(images, images, present, present, None)
    assert example.input is example.target is images
    assert example.weight[:, 0, 0].tolist() == [[1, 0], [1, 1]]
