"""The settings of the optimisation together, in bfloat16 on two devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pointwise import Pointwise
from stage_examples import assert_same_outcome, disturbed, final_state, numbers, sigterm, stage_of

from brats_jax import models
from brats_jax.inference.restored_network import RestoredNetwork
from brats_jax.models import Supervised
from brats_jax.models.layers import Conv
from brats_jax.runtime.signals import Interrupted
from brats_jax.tasks import Segmentation


class PointwiseWithHeads(Pointwise):
    """Two further heads, of every second and fourth pixel."""

    def __init__(self, channels, dtype, rngs, outputs):
        super().__init__(channels, dtype, rngs, outputs)
        heads = [Conv(8, outputs, 1, use_bias=True, rngs=rngs) for _ in range(2)]
        self.auxiliary = nnx.List(heads)

    def __call__(self, x, *, train):
        y = self.bn(self.encoder(x), relu=True, train=train)
        if not train:
            return self.head(y)
        heads = zip((2, 4), self.auxiliary, strict=True)
        return Supervised(self.head(y), {s: head(y[:, ::s, ::s]) for s, head in heads})


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointwiseSegmentation(Segmentation):
    """Segmentation with that network, which compiles in a moment."""

    def build(self, seed):
        return Pointwise(len(self.inputs), self.dtype, nnx.Rngs(seed), len(self.outputs))

    def build_to_train(self, seed):
        if not self.deep_supervision:
            return self.build(seed)
        rngs = nnx.Rngs(seed)
        return PointwiseWithHeads(len(self.inputs), self.dtype, rngs, len(self.outputs))


PLAIN = PointwiseSegmentation(dtype=jnp.bfloat16)
TASK = dataclasses.replace(
    PLAIN, deep_supervision=True, label_smoothing=0.1, loss_name="dice_focal"
)


def test_all_at_once_resumes_with_the_same_bits_and_leaves_a_plain_network(small_store, tmp_path):
    """Stopped in the validation of the first epoch, in float32. The heads are in `last` alone."""
    shapes = models.abstract(lambda: TASK.build_to_train(0))[1]
    marks = {name: name == "encoder" for name in shapes}
    options = {
        "steps_per_epoch": 4, "keep_last": True, "threads": 1, "float32_epochs": 1,
        "optimizer": "adamw", "warmup_epochs": 0.5, "clip_norm": 1.0, "schedule": "cosine",
        "ema": 0.5, "norm_group": 2, "gradient_sum": "bfloat16",
        "freeze_epochs": 1, "transferred_factor": 0.5,
        "transferred": {
            name: jax.tree.map(lambda _, m=marks[name]: np.array(m), part)
            for name, part in shapes.items()
        },
    }  # fmt: skip
    whole = stage_of(small_store, tmp_path / "whole", TASK, **options)
    whole.run()
    stopping = disturbed(small_store, sigterm, patches=False)
    with pytest.raises(Interrupted):
        stage_of(stopping, tmp_path / "stopped", TASK, **options).run()
    stage = stage_of(small_store, tmp_path / "stopped", TASK, **options)
    stage.run()
    assert_same_outcome(stage, whole)

    state, start = final_state(whole), jax.device_get(whole.initial_state()[1])
    for old, new in zip(*map(jax.tree.leaves, (start.params, state.params)), strict=True):
        assert old.ndim != 4 or (old != new).any()  # every kernel is trained, those of heads too
    assert set(state.params["auxiliary"]) == {0, 1}
    best = RestoredNetwork(PLAIN, whole.folder, whole.mesh)
    average = models.without_auxiliary(state.average["params"])
    jax.tree.map(np.testing.assert_array_equal, best.params, average)
    assert np.isfinite(numbers(whole, "validation")[-1]["loss"])
