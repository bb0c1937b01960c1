"""A stage that reads neighbouring slices: stopped and continued, cut on host or devices."""

import dataclasses

import numpy as np
import pytest
from meshes import mesh_of
from pointwise import PointwiseTask
from stage_examples import TASK, assert_same_outcome, disturbed, numbers, sigterm, stage_of

from brats_jax.errors import BratsError
from brats_jax.runtime.signals import Interrupted

BESIDE = dataclasses.replace(TASK, context=1)


def test_a_stage_with_a_context_resumes_with_the_same_bits_in_both_placements(
    small_store, tmp_path
):
    whole = stage_of(small_store, tmp_path / "whole", BESIDE)
    whole.run()
    parts = disturbed(small_store, sigterm, after=5)
    with pytest.raises(Interrupted):
        stage_of(parts, tmp_path / "parts", BESIDE).run()
    stage = stage_of(small_store, tmp_path / "parts", BESIDE, placement="device")
    stage.run()
    assert_same_outcome(stage, whole)
    # Slices 20 to 59 of patients with 16: 19 and 60 are read beside them, and no slice twice.
    assert np.array_equal(stage.read_slices, np.arange(19, 61))
    # The neighbours take part, and one device gives the losses of two.
    alone = stage_of(small_store, tmp_path / "alone", TASK)
    alone.run()
    assert numbers(alone, "train") != numbers(whole, "train")
    one = stage_of(small_store, tmp_path / "one", BESIDE, mesh_of(1), learning_rate=1e-5)
    two = stage_of(small_store, tmp_path / "two", BESIDE, mesh_of(2), learning_rate=1e-5)
    one.run(), two.run()
    for a, b in zip(numbers(one), numbers(two), strict=True):
        assert a == pytest.approx(b, abs=1e-4)
    with pytest.raises(BratsError, match="another model: context is 1 there, 2 here"):
        stage_of(small_store, tmp_path / "whole", PointwiseTask(context=2)).run()
