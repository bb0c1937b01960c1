import numpy as np

from brats_jax.data.scans.head import head_mask


def slices(noise):
    """One slice of air, one with a ring of skin around dark bone and a brain, and a far speck."""
    row, column = np.meshgrid(np.arange(80), np.arange(90), indexing="ij")
    radius = np.hypot(row - 40, column - 40)
    image = np.where(radius < 24, 120, np.where((radius > 28) & (radius < 31), 200, 0))
    image[38:42, 84:88] = 200
    both = np.stack([np.zeros_like(image), image]).astype(float)
    return both + noise * np.random.default_rng(0).random(both.shape), radius < 31


def test_the_head_is_what_its_skin_encloses_and_no_speck_beside_it():
    for noise in (0, 20):
        image, head = slices(noise)
        found = head_mask(image)
        assert not found[0].any()
        assert np.count_nonzero(found[1] != head) < 0.02 * np.count_nonzero(head)
        assert found[1, 40, 66] and image[1, 40, 66] < 30  # bone
        assert not found[1, :, 80:].any()


def test_a_head_at_the_edge_of_the_image_is_kept():
    image, head = slices(5)
    cut = slice(10, None)
    found = head_mask(image[:, cut, 10:])
    assert found[1, 0, 28:33].all() and found[1, 28:33, 0].all()
    assert np.count_nonzero(found[1] != head[cut, 10:]) < 0.03 * np.count_nonzero(head[cut, 10:])


def test_an_empty_image_has_no_head():
    assert not head_mask(np.full((2, 8, 9), 3, np.uint8)).any()
