"""The steps that run in float32 before those in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
from stage_examples import TASK, final_state, numbers, stage_of


def test_bfloat16_training_begins_with_float32_epochs(small_store, tmp_path):
    """A float32 epoch that continues in bfloat16 gives the bits of float32_epochs=1."""
    half = TASK.computing_in(jnp.bfloat16)
    whole = stage_of(small_store, tmp_path / "whole", task=half, float32_epochs=1)
    whole.run()
    first = stage_of(small_store, tmp_path / "parts", task=TASK, epochs=1)
    first.run()
    assert numbers(first, "train") == numbers(whole, "train")[:1]
    assert numbers(first, "validation") != numbers(whole, "validation")[:1]  # of float32
    rest = stage_of(small_store, tmp_path / "parts", task=half, float32_epochs=1)
    rest.run()
    jax.tree.map(np.testing.assert_array_equal, final_state(rest), final_state(whole))
    assert {leaf.dtype for leaf in jax.tree.leaves(final_state(rest).params)} == {np.dtype("f4")}
    single = stage_of(small_store, tmp_path / "single", task=TASK)
    single.run()
    assert numbers(single, "train") != numbers(whole, "train")
