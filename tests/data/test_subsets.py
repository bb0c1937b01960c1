"""The subsets of the modalities: their order, their names, and a batch of some of them alone."""

import itertools

import jax.numpy as jnp
import numpy as np

from brats_jax.data.modalities import MODALITIES
from brats_jax.data.subsets import (
    ROWS,
    SUBSETS,
    as_mask,
    dots,
    keep_only,
    subset_name,
    subset_words,
    subsets_of,
)


def test_there_is_every_non_empty_subset_once_in_the_order_of_the_literature():
    """The columns of Table 1 of RFNet, from left to right; dots of FLAIR, T1, T1Gd and T2."""
    every = {frozenset(c) for n in range(1, 5) for c in itertools.combinations(MODALITIES, n)}
    assert {frozenset(subset) for subset in SUBSETS} == every and len(SUBSETS) == 15
    assert [dots(subset) for subset in SUBSETS] == [
        "○○○●", "○○●○", "○●○○", "●○○○", "○○●●", "○●●○", "●●○○", "○●○●", "●○○●", "●○●○",
        "●●●○", "●●○●", "●○●●", "○●●●", "●●●●",
    ]  # fmt: skip
    assert all(list(subset) == [name for name in ROWS if name in subset] for subset in SUBSETS)


def test_the_subsets_of_two_inputs_are_three_and_the_last_is_both():
    assert subsets_of(("t1gd", "flair")) == (("t1gd",), ("flair",), ("flair", "t1gd"))
    assert dots(("flair",), ("t1gd", "flair")) == "●○"


def test_names_are_in_the_order_of_the_rows():
    assert subset_name(("t2", "flair")) == "flair+t2"
    assert subset_words(("t1gd", "flair")) == "FLAIR, T1Gd"


def test_what_stands_in_a_missing_channel_is_gone_also_of_neighbours_and_also_nan():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 3, 3, 4)).astype(np.float16)
    near = rng.normal(size=(2, 3, 3, 8)).astype(np.float16)
    image[..., 0] = near[..., 4] = np.nan
    given = jnp.asarray(as_mask(("t1gd", "flair")))
    found = keep_only({"image": jnp.asarray(image), "neighbours": jnp.asarray(near)}, given)
    zero = np.zeros((2, 3, 3))
    for k, whole in ((0, zero), (1, image[..., 1]), (2, zero), (3, image[..., 3])):
        np.testing.assert_array_equal(found["image"][..., k], whole)
    for k in range(8):
        np.testing.assert_array_equal(
            found["neighbours"][..., k], near[..., k] if k % 4 in (1, 3) else zero
        )
    assert found["image"].dtype == np.float16
    assert found["present"].tolist() == [[False, True, False, True]] * 2


def test_a_modality_that_the_patient_lacks_stays_missing():
    present = jnp.asarray([[True, True, True, False], [True, True, True, True]])
    batch = {"image": jnp.ones((2, 1, 1, 4)), "present": present}
    found = keep_only(batch, jnp.asarray(as_mask(("t1", "flair"))))
    assert found["present"].tolist() == [[True, False, False, False], [True, False, False, True]]
