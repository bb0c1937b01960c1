"""Every pretext with every fusion, and what a segmentation takes from it. Nothing is compiled."""

import jax
import numpy as np
import pytest
from flax import nnx
from tiny_fusion import NAMES, make_tiny, task_of

from brats_jax import models
from brats_jax.models.torch_weights import leaves
from brats_jax.pretexts import PRETEXTS
from brats_jax.tasks import Pretraining
from brats_jax.training.transfer import transfer_mask


class Head(nnx.Module):
    """A decoder of the coarsest map's mean."""

    out_channels = 8

    def __init__(self, channels, **_):
        self.channels = channels

    def __call__(self, maps, *, train):
        c0 = maps[0] + maps[-1].mean((1, 2), keepdims=True)
        return c0.repeat(2, axis=1).repeat(2, axis=2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pretext", PRETEXTS)
def test_a_pretext_trains_any_fusion_and_its_encoder_goes_to_a_segmentation(
    pretext, name, monkeypatch
):
    make_tiny(monkeypatch)
    monkeypatch.setitem(models.DECODERS, "unet", Head)
    fusion, _, weights = name.partition(":")
    stage = Pretraining(
        pretext_name=pretext, fusion_name=fusion, fusion_weights=weights or "shared", width=8,
        decoder="unet",
    )  # fmt: skip
    batch = {
        "image": np.zeros((2, 32, 32, 4), np.float16),
        "donor": np.zeros((2, 32, 32, 4), np.float16),
        "present": np.ones((2, 4), bool),
        "donor_present": np.ones((2, 4), bool),
        "seed": np.arange(2, dtype=np.uint32),
    }
    graph, params, stats = models.abstract(lambda: stage.build(0))

    def step(params, stats, batch):
        x, target = stage.prepare(batch, training=True)
        y, _ = models.apply(graph, params, stats, x, train=True)
        return y, stage.loss(y, target)

    y, loss = jax.eval_shape(step, params, stats, batch)
    assert y.shape == (2, 32, 32, len(stage.outputs)) and loss.shape == ()

    segmentation = task_of(name)
    target = models.shapes(lambda: segmentation.build(0))
    marks = transfer_mask(target, stage.stem_channels, segmentation.stem_channels)
    taken = {path for path, mark in leaves(marks) if np.any(mark)}
    own = {path for path, _ in leaves(params) if path[0] == "encoder"}
    assert taken == {path for path in own if path in dict(leaves(target))}
    assert len(taken) >= 3
