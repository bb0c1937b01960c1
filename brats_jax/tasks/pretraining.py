"""Stage 1: predicts images from images; a pretext defines which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from brats_jax import losses
from brats_jax.data.augment import augment
from brats_jax.data.brain import brain_mask
from brats_jax.data.modalities import MODALITIES, channel_indices
from brats_jax.models import DECODERS, ReconstructionModel
from brats_jax.pretexts import DEFAULT as DEFAULT_PRETEXT
from brats_jax.pretexts import PRETEXTS, Example, Options, Pretext
from brats_jax.tasks.base import Batch, Images, Task

DEFAULT_DECODER = next(iter(DECODERS))


class Weighted(NamedTuple):
    """A target, and the part of it that counts in the loss.

    Attributes:
      image: float32[B, H, W, K].
      weight: 0 or 1, of a shape [B, ...] that broadcasts to it.
    """

    image: jax.Array
    weight: jax.Array


@dataclass(frozen=True, kw_only=True)
class Pretraining(Task):
    """Stage 1: predicts images from images.

    Attributes:
      inputs: the configured inputs; a pretext may read others (see `stem`).
      targets: the configured modalities to predict; a pretext may predict others (see `outputs`).
      pretext_name: a key of `pretexts.PRETEXTS`.
      options: parameters of the pretext.
      decoder: a key of `models.DECODERS`.
      loss_name: a key of `losses.RECONSTRUCTION_LOSSES`.
    """

    inputs: tuple[str, ...] = ("t1", "t1gd")
    targets: tuple[str, ...] = ("flair",)
    pretext_name: str = DEFAULT_PRETEXT
    options: Options = Options()  # noqa: RUF009, immutable
    decoder: str = DEFAULT_DECODER
    loss_name: str = "mse"

    name: ClassVar[str] = "pretrain"

    @property
    def metric(self) -> str:
        """See `Task.metric`: the score that the loss improves."""
        return "ssim" if self.loss_name == "brain_ssim" else "mse"

    @property
    def larger_is_better(self) -> bool:
        """See `Task.larger_is_better`."""
        return self.metric == "ssim"

    @property
    def pretext(self) -> Pretext:
        """The pretext, functions of arrays."""
        places = channel_indices(self.inputs), channel_indices(self.targets)
        return PRETEXTS[self.pretext_name](*places, self.options, self.slices_read)

    @property
    def stem(self) -> tuple[str, ...]:
        """The modalities that the network reads."""
        return _names(self.pretext.reads)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The modalities that the network predicts."""
        return _names(self.pretext.predicts)

    @property
    def tested(self) -> tuple[str, ...]:
        """The outputs that are evaluated."""
        return _names(self.pretext.tested)

    @property
    def synthetic(self) -> tuple[str, ...]:
        """The outputs that are predicted from other modalities; empty for some pretexts."""
        return _names(self.pretext.synthetic)

    @property
    def slice_facts(self) -> frozenset[str]:
        """See `Task.slice_facts`."""
        pretext = self.pretext
        needed = {
            "seed": pretext.is_random,
            "donor": pretext.needs_donor,
            "background": self.loss_name in losses.BRAIN_LOSSES or self._needs_background,
        }
        return frozenset(name for name, is_needed in needed.items() if is_needed)

    @property
    def _needs_background(self) -> bool:
        return self.augmentation is not None and self.augmentation.needs_background

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Task.needs`."""
        return _names(self.pretext.needs)

    @property
    def test_needs(self) -> tuple[str, ...]:
        """See `Task.test_needs`."""
        return _names(self.pretext.test_needs)

    def usable(self, present: np.ndarray) -> np.ndarray:
        """See `Task.usable`."""
        return self.pretext.usable(present)

    def build(self, seed: int) -> nnx.Module:
        """A newly initialised network."""
        return ReconstructionModel(
            len(self.stem_channels),
            len(self.outputs),
            decoder=self.decoder,
            width=self.width,
            slope=self.slope,
            fusion=self.fusion,
            dtype=self.dtype,
            rngs=nnx.Rngs(seed),
        )

    def describe(self) -> dict[str, Any]:
        """See `Task.describe`. Checkpoints of version 0.1.0 have neither pretext nor decoder."""
        found = super().describe()
        if self.pretext_name != DEFAULT_PRETEXT:
            found["pretext"] = self.pretext_name
        if self.decoder != DEFAULT_DECODER:
            found["decoder"] = self.decoder
        if self.synthetic and (self.stem, self.outputs) != (self.inputs, self.targets):
            found |= {"predicts": list(self.targets), "from": list(self.inputs)}
        return found

    @classmethod
    def described_by(cls, description: Mapping[str, Any], dtype: DTypeLike) -> Self:
        """See `Task.described_by`."""
        decoder = description.get("decoder", DEFAULT_DECODER)
        DECODERS[decoder]  # LookupError where unknown
        return cls(
            inputs=tuple(description.get("from", description["inputs"])),
            targets=tuple(description.get("predicts", description["outputs"])),
            pretext_name=description.get("pretext", DEFAULT_PRETEXT),
            decoder=decoder,
            context=description.get("context", 0),
            width=description["width"],
            slope=description.get("slope", 0.0),
            **cls.described_fusion(description),
            dtype=dtype,
        )

    def prepare(self, batch: Batch, *, training: bool) -> tuple[Images, jax.Array | Weighted]:
        """See `Task.prepare`.

        The batch may have also, by `slice_facts`: `seed` in validation; `donor`, images of other
        persons; `background` [B, 4] and `donor_background`; `present` bool[B, 4] and
        `donor_present`.

        Returns:
          input; target float32[B, H, W, K], or `Weighted` where not all of it counts.
        """
        pretext = self.pretext
        before = "donor_" if pretext.needs_donor else ""
        images = batch["image"].astype(jnp.float32)
        others = batch["donor"].astype(jnp.float32) if pretext.needs_donor else images
        brain = None
        if self.loss_name in losses.BRAIN_LOSSES:
            brain = brain_mask(others, batch[f"{before}background"])
        x, target = (
            self.read(images, batch, pretext.reads),
            others[..., jnp.array(pretext.predicts)],
        )
        if training and self.augmentation is not None:
            outside: tuple[jax.Array | None, jax.Array | None] = (None, None)
            if self._needs_background:
                outside = (
                    self.background(batch, pretext.reads),
                    batch[f"{before}background"][:, jnp.array(pretext.predicts)],
                )
            x, target, brain = self._augmented(x, target, brain, batch["seed"], *outside)
        found = pretext.example(
            x,
            target,
            _of(batch.get("present"), pretext.reads),
            _of(batch.get(f"{before}present"), pretext.predicts),
            batch.get("seed"),
        )
        weight = found.weight
        if brain is not None:
            of_brain = brain[..., None].astype(jnp.float32)
            weight = of_brain if weight is None else weight * of_brain
        return found.input, found.target if weight is None else Weighted(found.target, weight)

    def test_example(self, batch: Batch) -> Example:
        """Input, target and weight for evaluation; prediction needs the input alone.

        Args:
          batch: `image` [B, H, W, 4]; `seed` uint32[B] where the pretext is random; `present`;
            `neighbours` with a context (see `read`).
        """
        pretext, images = self.pretext, batch["image"].astype(jnp.float32)
        return pretext.test_example(
            self.read(images, batch, pretext.reads),
            images[..., jnp.array(pretext.predicts)],
            _of(batch.get("present"), pretext.reads),
            _of(batch.get("present"), pretext.predicts),
            batch.get("seed"),
        )

    def test_input(self, batch: Batch) -> jax.Array:
        """See `Task.test_input`."""
        if self.pretext.is_random:
            batch = {**batch, "seed": jnp.zeros(batch["image"].shape[0], jnp.uint32)}
        return self.test_example(batch).input

    def _augmented(
        self,
        x: jax.Array,
        target: jax.Array,
        brain: jax.Array | None,
        seeds: jax.Array,
        *outside: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        assert self.augmentation is not None
        marked = None if brain is None else brain.astype(jnp.uint8)
        given, slices = (x, target, marked, seeds), self.slices_read
        x, moved, marked = augment(*given, self.augmentation, *outside, slices=slices)
        assert moved is not None
        return x, moved, None if marked is None else marked > 0

    def result(self, output: jax.Array) -> jax.Array:
        """See `Task.result`: float32[B, H, W] of the only modality tested, or [B, H, W, K]."""
        places = [self.outputs.index(name) for name in self.tested]
        if len(places) == 1:
            return output[..., places[0]]
        return output if len(places) == output.shape[-1] else output[..., jnp.array(places)]

    def loss(
        self, output: Float[Array, "b h w k"], target: Float[Array, "b h w k"] | Weighted
    ) -> jax.Array:
        """The loss called `loss_name` over what counts."""
        return losses.RECONSTRUCTION_LOSSES[self.loss_name](output, *_parts(target))

    def validate(
        self, output: Float[Array, "b h w k"], target: Float[Array, "b h w k"] | Weighted
    ) -> dict[str, jax.Array]:
        """The mean squared error of each slice; where a part counts, its sum and its size.

        For the loss `brain_ssim` the same of SSIM, whose windows count by their centres.
        """
        image, weight = _parts(target)
        squares = jnp.square(output - image)
        if weight is None:
            return {"mse": jnp.mean(squares, axis=(1, 2, 3))}
        weight = jnp.broadcast_to(weight, squares.shape)
        space = (1, 2, 3)
        found = {"squares": jnp.sum(squares * weight, space), "counted": jnp.sum(weight, space)}
        if self.metric == "ssim":
            windows, centres = losses.ssim_of_windows(output, image, weight)
            shape = len(output), -1
            found["similarity"] = jnp.sum((windows * centres).reshape(shape), 1)
            found["windows"] = jnp.sum(centres.reshape(shape), 1)
        return found

    def summarise(self, statistics: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The mean over what counts; 0 where nothing does."""
        if "mse" in statistics:  # all slices have one size
            return {"mse": float(statistics["mse"].mean())}
        total = {name: float(values.sum(dtype=np.float64)) for name, values in statistics.items()}
        scores = {"mse": _ratio(total["squares"], total["counted"])}
        if "windows" in total:
            scores["ssim"] = _ratio(total["similarity"], total["windows"])
        return scores


def _ratio(total: float, count: float) -> float:
    return total / count if count else 0.0


def _parts(target: jax.Array | Weighted) -> tuple[jax.Array, jax.Array | None]:
    return target if isinstance(target, Weighted) else (target, None)


def _of(present: jax.Array | None, places: Sequence[int]) -> jax.Array | None:
    return None if present is None else present[:, jnp.array(places)]


def _names(places: Sequence[int]) -> tuple[str, ...]:
    return tuple(MODALITIES[place] for place in places)
