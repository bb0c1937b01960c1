"""What the fusions share: the modalities of an input, and means over those that are there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from brats_jax.models import presence
from brats_jax.models.layers import Conv, he_normal_fan_in

Images = Float[Array, "b h w c"]
OfEach = Float[Array, "b m h w c"]  # a map, or the images, of each modality
Present = Bool[Array, "b m"] | None  # None: all modalities are there

WEIGHTS = ("shared", "own")  # of encoders by modality; the first is the default


@dataclass(frozen=True)
class Fusion:
    """How an encoder makes its five maps from several modalities.

    Attributes:
      name: a key of `FUSIONS`.
      modalities: of the input, in channel order.
      slices: whose modalities the input has, slice by slice.
      with_presence: whether channels of presence follow (`models.presence`).
      weights: of `WEIGHTS`, for encoders by modality.
    """

    name: str
    modalities: tuple[str, ...]
    slices: int = 1
    with_presence: bool = False
    weights: str = WEIGHTS[0]

    def split(self, x: Images) -> tuple[OfEach, Present]:
        """The images of each modality [B, M, H, W, slices], and which are there."""
        present = None
        if self.with_presence:
            x, present = presence.decoded(x, len(self.modalities))
        of_slices = x.reshape(*x.shape[:3], self.slices, len(self.modalities))
        return of_slices.transpose(0, 4, 1, 2, 3), present


def mean_of_present(maps: OfEach, present: Present) -> Images:
    """The mean over the modalities that are there; 0 where none is.

    The sum is in float32. A map of a missing modality takes no part, whatever it holds.
    """
    wide = maps.astype(jnp.float32)
    if present is None:
        return wide.mean(axis=1).astype(maps.dtype)
    there = present[:, :, None, None, None]
    count = jnp.maximum(there.sum(axis=1), 1).astype(jnp.float32)
    return (jnp.where(there, wide, 0).sum(axis=1) / count).astype(maps.dtype)


def stand_ins_of_patient(images: OfEach, present: Present) -> OfEach:
    """The images, with the next modality that the patient has in place of a missing one.

    BatchNorm in training takes statistics over all images that it is given. With stand-ins these
    are real images, each patient counts alike, and no weighted BatchNorm is needed; the maps of
    stand-ins are left out afterwards. Running statistics thus fit prediction, where every map that
    counts is that of a real image.
    """
    if present is None:
        return images
    return jnp.take_along_axis(images, _next_there(present)[:, :, None, None, None], axis=1)


def stand_ins_of_batch(images: Images, present: Bool[Array, " b"]) -> Images:
    """The same for one modality: in place of a missing image stands that of the next patient."""
    return images[_next_there(present[None])[0]]


def _next_there(present: Bool[Array, "n k"]) -> jax.Array:
    """int[n, k]: the first place from each on, cyclically, that is there; itself where none is."""
    places = jnp.arange(present.shape[1])
    steps = (places[None, :] - places[:, None]) % len(places)
    absent = jnp.where(present[:, None, :], 0, len(places))
    return jnp.argmin(steps + absent, axis=-1)


def by_modality(
    parts: Sequence[Callable[..., Any]], images: OfEach, present: Present, *, train: bool
) -> list[Any]:
    """The result of each modality's own module for its images.

    In training with stand-ins for missing images (`stand_ins_of_batch`). A module whose modality
    no example of the batch has keeps its running statistics.
    """
    if not train or present is None:
        return [part(images[:, m], train=train) for m, part in enumerate(parts)]
    found = []
    for m, part in enumerate(parts):
        statistics = [v for _, v in nnx.iter_graph(part) if isinstance(v, nnx.BatchStat)]
        before = [one[...] for one in statistics]
        found.append(part(stand_ins_of_batch(images[:, m], present[:, m]), train=True))
        for one, old in zip(statistics, before, strict=True):
            one.set_value(jnp.where(present[:, m].any(), one[...], old))
    return found


class ModalityAttention(nnx.Module):
    """Attention over modalities, pixel by pixel, gated by what is there.

        a_m = softmax over present m of q . k_m / sqrt(d),   result = sum over m of a_m f_m
        q = Q mean_m f_m,  k_m = K f_m

    Q starts at 0, so that the result starts as the mean over those present.

    Args:
      channels: of the maps.
      dtype: compute type of the projections; the softmax is in float32.
      rngs: needs the stream `params`.

    Reference: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; masked by presence as in
    Zhang et al. 2022 (mmFormer), https://arxiv.org/abs/2206.02425
    """

    def __init__(self, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.size = max(4, channels // 8)
        self.query = Conv(channels, self.size, 1, kernel_init=zeros, dtype=dtype, rngs=rngs)
        self.key = Conv(
            channels, self.size, 1, kernel_init=he_normal_fan_in, dtype=dtype, rngs=rngs
        )

    def __call__(self, maps: OfEach, present: Present) -> Images:
        """Maps [B, M, H, W, C] of the modalities as one [B, H, W, C]."""
        query = self.query(mean_of_present(maps, present)).astype(jnp.float32)
        # Each modality's score by itself: with modalities folded into the batch, the YNNPACK fusion
        # of XLA:CPU (jax 0.10.2) gave wrong sums for several slices of 240 x 240; without it
        # (XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=) they were right.
        scores = jnp.stack(
            [
                jnp.sum(query * self.key(maps[:, m]).astype(jnp.float32), axis=-1, keepdims=True)
                for m in range(maps.shape[1])
            ],
            axis=1,
        ) / jnp.sqrt(self.size)
        wide = maps.astype(jnp.float32)
        if present is not None:
            there = present[:, :, None, None, None]
            # Finite: of a row without any modality the softmax is even, and the result 0.
            scores, wide = jnp.where(there, scores, -1e30), jnp.where(there, wide, 0)
        weights = jax.nn.softmax(scores, axis=1)
        return jnp.sum(weights * wide, axis=1).astype(maps.dtype)


def zeros(key: jax.Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """An initialiser of 0."""
    return jnp.zeros(shape, jnp.float32)
