import jax.numpy as jnp
import numpy as np
import pytest

from brats_jax.pretexts import PRETEXTS, Options


def masked(**options):
    return PRETEXTS["masked"]((0, 1), (3,), Options(**options))


def example_of(pretext, count=6, size=64, present=None):
    images = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (count, size, size, 4)))
    seeds = np.arange(count, dtype=np.uint32)
    return images, pretext.example(images, images, present, present, seeds)


@pytest.mark.parametrize("together", [True, False])
def test_the_share_asked_for_is_hidden_in_whole_blocks(together):
    """16 blocks of 16 x 16; 10 of them are 62.5 %."""
    images, example = example_of(masked(mask_ratio=(0.625,), mask_together=together))
    hidden = np.asarray(example.weight, bool)
    blocks = hidden.reshape(6, 4, 16, 4, 16, 4)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    assert (blocks[:, :, 0, :, 0].sum(axis=(1, 2)) == 10).all()
    same = (hidden == hidden[..., :1]).all(axis=(1, 2, 3))
    assert same.all() if together else not same.any()
    assert (hidden[0] != hidden[1]).any()
    # What is hidden is 0 in the input and counts; the rest stays, and does not.
    np.testing.assert_array_equal(example.input, np.where(hidden, 0, images))
    np.testing.assert_array_equal(example.target, images)


def test_the_share_varies_between_the_two_given():
    _, example = example_of(masked(mask_block=4), count=200)
    shares = np.asarray(example.weight).mean(axis=(1, 2, 3))
    assert shares.min() >= 0.6 - 1 / 256 and shares.max() <= 0.75 + 1 / 256
    assert shares.min() < 0.62 and shares.max() > 0.73 and abs(shares.mean() - 0.675) < 0.01


def test_blocks_that_do_not_fit_are_cut_off():
    _, example = example_of(masked(), size=40)
    assert example.weight.shape == (6, 40, 40, 4)
    assert 0 < np.asarray(example.weight).mean() < 1


def test_missing_modalities_do_not_count():
    present = np.tile([True, False, True, True], (6, 1))
    _, example = example_of(masked(), present=present)
    assert not example.weight[..., 1].any() and example.weight[..., 0].any()
