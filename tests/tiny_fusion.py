"""Segmentations of every fusion with an encoder that compiles in a moment. Not tests."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brats_jax import models
from brats_jax.models import FUSIONS
from brats_jax.models.fusion import encoders, stem
from brats_jax.models.layers import BatchNorm, Conv
from brats_jax.tasks import Segmentation

NAMES = ("encoders", "encoders:own", "attention", "stem")


class TinyEncoder(nnx.Module):
    """1x1 convolution with stride 2, batch normalisation, ReLU, and every second pixel of that."""

    def __init__(self, in_channels, *, width, dtype, rngs):
        self.conv1 = Conv(in_channels, width, 1, stride=2, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(width, dtype=dtype)
        self.channels = (width,) * 5

    def __call__(self, x, shift=None, *, train):
        y = self.conv1(x)
        shift = None if shift is None else jnp.broadcast_to(shift, y.shape)
        return maps_above(None, self.bn1(y, shift, relu=True, train=train), train=train)


def maps_above(_, c0, *, train):
    return tuple(c0[:, :: 2**k, :: 2**k] for k in range(5))


def make_tiny(monkeypatch):
    """Puts the tiny encoder in the places of ResNet-50."""
    monkeypatch.setattr(encoders, "ResNet50", TinyEncoder)
    monkeypatch.setattr(stem, "channels_of", lambda width: (width,) * 5)
    monkeypatch.setattr(stem, "made_stages", lambda *_: [nnx.List([]) for _ in range(4)])
    monkeypatch.setattr(stem, "maps_above", maps_above)


class Pyramid(nnx.Module):
    """A convolution of each of the five maps, added up: a decoder that compiles in a moment."""

    def __init__(self, channels, *, width, slope, dtype, rngs):
        self.out_channels = width
        self.parts = nnx.List([Conv(c, width, 1, dtype=dtype, rngs=rngs) for c in channels])

    def __call__(self, maps, *, train):
        parts = enumerate(zip(self.parts, maps, strict=True), 1)
        return sum(part(y).repeat(2**k, axis=1).repeat(2**k, axis=2) for k, (part, y) in parts)


class TinyNetwork(nnx.Module):
    """The fused encoder, and a head over its finest map and the mean of its coarsest one."""

    def __init__(self, task, rngs):
        self.encoder = FUSIONS[task.fusion_name](
            task.fusion, width=task.width, dtype=task.dtype, rngs=rngs
        )
        self.head = Conv(task.width, len(task.outputs), 1, use_bias=True, rngs=rngs)

    def __call__(self, x, *, train):
        c0, *_, c4 = self.encoder(x, train=train)
        y = self.head(c0 + c4.mean((1, 2), keepdims=True))
        return y.repeat(2, axis=1).repeat(2, axis=2)[:, : x.shape[1], : x.shape[2]]


@dataclasses.dataclass(frozen=True)
class TinyTask(Segmentation):
    """A segmentation with that network."""

    def build(self, seed):
        return TinyNetwork(self, nnx.Rngs(seed))

    build_to_train = build


def task_of(name, **fields):
    """The task of one of `NAMES`."""
    fusion, _, weights = name.partition(":")
    fields = {"width": 8, "modality_dropout": 0.5, **fields}
    return TinyTask(fusion_name=fusion, fusion_weights=weights or "shared", **fields)


def maps_of(graph, params, stats, x, *, train=False):
    """(five maps, new statistics) of a network's encoder."""
    model = nnx.merge(graph, params, stats, copy=True)
    maps = model.encoder(x, train=train)
    return maps, models.split(model)[2]


PRESENT = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 0, 1, 0]], bool)


def batch(seed=0):
    """Images of three patients, who have the modalities of `PRESENT`."""
    images = np.random.default_rng(seed).standard_normal((3, 32, 32, 4)).astype(np.float16)
    return {"image": images, "present": PRESENT}


def network_of(task, seed=0):
    """The network with noise in all parameters, those that begin as 0 included."""
    graph, params, stats = models.split(task.build(seed))
    rng = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda a: a + jnp.asarray(0.3 * rng.standard_normal(a.shape), a.dtype), params
    )
    return graph, params, stats


def run(network, x, **kinds):
    """(five maps, new statistics) of the encoder of `network_of`."""
    return jax.jit(partial(maps_of, network[0], **kinds))(*network[1:], x)
