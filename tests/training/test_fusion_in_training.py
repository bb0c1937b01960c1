"""A segmentation of every fusion in training: continued, and on several devices."""

import numpy as np
import pytest
from meshes import mesh_of
from stage_examples import assert_same_outcome, disturbed, final_state, numbers, sigterm, stage_of
from tiny_fusion import NAMES, make_tiny, task_of

from brats_jax.data.augment import Augmentation
from brats_jax.models.torch_weights import leaves
from brats_jax.runtime.signals import Interrupted
from brats_jax.training.transfer import BY_MODALITY

SLOW = {"learning_rate": 1e-5}  # so that the rounding of another number of devices does not grow


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_of_every_fusion_resumes_with_the_same_bits(
    name, small_store, tmp_path, monkeypatch
):
    make_tiny(monkeypatch)
    task = task_of(name, augmentation=Augmentation(gamma=False), width=4)
    whole = stage_of(small_store, tmp_path / "whole", task, **SLOW)
    whole.run()
    with pytest.raises(Interrupted):
        stage_of(disturbed(small_store, sigterm, after=5), tmp_path / "parts", task, **SLOW).run()
    stage = stage_of(small_store, tmp_path / "parts", task, **SLOW)
    stage.run()
    assert_same_outcome(stage, whole)
    before = dict(leaves(whole.initial_state()[1].params))
    for path, leaf in leaves(final_state(whole).params):
        if path[1] in ("shared", *BY_MODALITY):
            assert (np.asarray(before[path]) != leaf).any(), path
    if name == "stem":  # whose stand-ins may lie on another device
        one = stage_of(small_store, tmp_path / "one", task, mesh_of(1), **SLOW)
        one.run()
        for a, b in zip(numbers(one), numbers(whole), strict=True):
            assert a == pytest.approx(b, abs=1e-4)
