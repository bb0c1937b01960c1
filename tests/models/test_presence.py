import jax.numpy as jnp
import numpy as np

from brats_jax.models import presence


def test_a_missing_modality_is_zero_in_every_slice_whatever_its_channels_hold():
    images = np.arange(8.0, dtype=np.float32) * np.ones((2, 3, 3, 8), np.float32)
    present = np.array([[True, False, True, True], [False, True, True, False]])
    plain = np.asarray(presence.encoded(images, present))
    assert plain[0, 1, 1].tolist() == [0, 0, 2, 3, 4, 0, 6, 7, 1, 0, 1, 1]
    assert plain[1, 0, 2].tolist() == [0, 1, 2, 0, 0, 5, 6, 0, 0, 1, 1, 0]
    missing = np.tile(~present, (1, 2))[:, None, None, :]
    for junk in (np.nan, np.inf, -7):
        found = presence.encoded(np.where(missing, np.float32(junk), images), present)
        assert np.asarray(found).tobytes() == plain.tobytes()
    shown, told = presence.decoded(jnp.asarray(plain), 4)
    np.testing.assert_array_equal(told, present)
    np.testing.assert_array_equal(shown, plain[..., :8])


def test_every_subset_of_four_modalities_is_drawn_as_often_as_the_table_says():
    present = np.ones((8400, 4), bool)
    kept = np.asarray(presence.dropped(np.arange(8400, dtype=np.uint32), present, 0.5))
    subsets, counts = np.unique(kept, axis=0, return_counts=True)
    assert len(subsets) == 15 and kept.any(axis=1).all()
    whole = subsets.all(axis=1)
    assert abs(counts[whole] - 4200) < 5 * np.sqrt(2100)
    assert (abs(counts[~whole] - 300) < 5 * np.sqrt(300)).all()  # 0.5 / 14
    np.testing.assert_array_equal(
        presence.dropped(np.arange(9, dtype=np.uint32), present[:9], 0.0), present[:9]
    )


def test_only_modalities_that_a_patient_has_are_kept_and_the_only_one_always():
    present = np.tile([[True, False, True, False], [False, False, False, True]], (200, 1))
    seeds = np.arange(400, dtype=np.uint32)
    kept = np.asarray(presence.dropped(seeds, present, 1.0))
    assert not (kept & ~present).any()
    np.testing.assert_array_equal(kept[1::2], present[1::2])
    both = kept[::2].sum(axis=0)
    assert (kept[::2].sum(axis=1) == 1).all() and abs(both[0] - 100) < 5 * np.sqrt(50)
    # An example's draw is its own: neither its place nor its batch takes part.
    np.testing.assert_array_equal(presence.dropped(seeds[7:9], present[7:9], 1.0), kept[7:9])
