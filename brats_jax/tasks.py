"""What differs between the two stages, and nothing else.

A task says which modalities go in, what is predicted, with which loss, and by which
number the best checkpoint is chosen. The training loop knows no more than this.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from brats_jax import losses
from brats_jax.data.augment import Augmentation, augment
from brats_jax.data.modalities import CLASSES, NUM_CLASSES, channel_indices
from brats_jax.metrics import overlap
from brats_jax.models import ReconstructionModel, SegmentationModel

Batch = Mapping[str, jax.Array]


class Task(Protocol):
    """One stage of the method, as the training loop sees it."""

    @property
    def name(self) -> str:
        """'pretrain' or 'segment'."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """The modalities that go in, in the order of the channels."""
        ...

    @property
    def dtype(self) -> Any:
        """What the network computes in; parameters and what its head does are float32."""
        ...

    def computing_in(self, dtype: Any) -> "Task":
        """The same, computed in another type: other roundings of the same parameters."""
        ...

    @property
    def metric(self) -> str:
        """The validation number that chooses the best checkpoint."""
        ...

    @property
    def larger_is_better(self) -> bool:
        """Which way `metric` improves."""
        ...

    def build(self, seed: int) -> nnx.Module:
        """A freshly initialised model."""
        ...

    def describe(self) -> dict[str, Any]:
        """What identifies the model of a checkpoint (JSON-able)."""
        ...

    def prepare(self, batch: Batch, *, training: bool) -> tuple[jax.Array, jax.Array]:
        """(network input [B, H, W, C] float32, target), augmented when training."""
        ...

    def loss(self, output: jax.Array, target: jax.Array) -> jax.Array:
        """The scalar training loss."""
        ...

    def validate(self, output: jax.Array, target: jax.Array) -> dict[str, jax.Array]:
        """Sufficient statistics per slice, each [B, ...]; runs on the device."""
        ...

    def summarise(self, statistics: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Validation numbers from the statistics of all slices; includes `metric`."""
        ...


@dataclass(frozen=True)
class Pretraining:
    """Stage 1, the pretext: predict one modality from others by mean squared error."""

    inputs: tuple[str, ...] = ("t1", "t1gd")
    target: str = "flair"
    width: int = 64
    dtype: Any = jnp.float32
    augmentation: Augmentation | None = None
    name: str = field(default="pretrain", init=False)
    metric: str = field(default="mse", init=False)
    larger_is_better: bool = field(default=False, init=False)

    def computing_in(self, dtype: Any) -> "Pretraining":
        """The same, computed in another type: other roundings of the same parameters."""
        return replace(self, dtype=dtype)

    def build(self, seed: int) -> ReconstructionModel:
        """A freshly initialised model."""
        return ReconstructionModel(
            len(self.inputs), width=self.width, dtype=self.dtype, rngs=nnx.Rngs(seed)
        )

    def describe(self) -> dict[str, Any]:
        """What identifies the model of a checkpoint (JSON-able)."""
        return {
            "task": self.name,
            "inputs": list(self.inputs),
            "outputs": [self.target],
            "width": self.width,
        }

    def prepare(self, batch: Batch, *, training: bool) -> tuple[jax.Array, jax.Array]:
        """(inputs float32[B, H, W, C], target float32[B, H, W, 1])."""
        images = batch["image"].astype(jnp.float32)
        x = images[..., jnp.array(channel_indices(self.inputs))]
        y = images[..., jnp.array(channel_indices([self.target]))]
        if training and self.augmentation is not None:
            x, y, _ = augment(x, y, None, batch["seed"], self.augmentation)
        return x, y

    def loss(self, output: Float[Array, "b h w 1"], target: Float[Array, "b h w 1"]) -> jax.Array:
        """Mean squared error."""
        return losses.mse(output, target)

    def validate(
        self, output: Float[Array, "b h w 1"], target: Float[Array, "b h w 1"]
    ) -> dict[str, jax.Array]:
        """The mean squared error of each slice."""
        return {"mse": jnp.mean(jnp.square(output - target), axis=(1, 2, 3))}

    def summarise(self, statistics: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The mean over slices (all have as many pixels: also the mean over pixels)."""
        return {"mse": float(statistics["mse"].mean())}


@dataclass(frozen=True)
class Segmentation:
    """Stage 2: background, NCR/NET, ED and ET from four modalities."""

    inputs: tuple[str, ...] = ("t1", "t1gd", "t2", "flair")
    loss_name: str = "dice_ce"
    focal_gamma: float = 2.0
    focal_alpha: tuple[float, ...] | None = None
    width: int = 64
    dtype: Any = jnp.float32
    augmentation: Augmentation | None = None
    name: str = field(default="segment", init=False)
    metric: str = field(default="mean_foreground_dice", init=False)
    larger_is_better: bool = field(default=True, init=False)

    def computing_in(self, dtype: Any) -> "Segmentation":
        """The same, computed in another type: other roundings of the same parameters."""
        return replace(self, dtype=dtype)

    def build(self, seed: int) -> SegmentationModel:
        """A freshly initialised model."""
        return SegmentationModel(
            len(self.inputs), width=self.width, dtype=self.dtype, rngs=nnx.Rngs(seed)
        )

    def describe(self) -> dict[str, Any]:
        """What identifies the model of a checkpoint (JSON-able)."""
        return {
            "task": self.name,
            "inputs": list(self.inputs),
            "outputs": list(CLASSES),
            "width": self.width,
        }

    def prepare(self, batch: Batch, *, training: bool) -> tuple[jax.Array, jax.Array]:
        """(inputs float32[B, H, W, C], labels uint8[B, H, W])."""
        x = batch["image"].astype(jnp.float32)[..., jnp.array(channel_indices(self.inputs))]
        labels = batch["label"]
        if training and self.augmentation is not None:
            x, _, labels = augment(x, None, labels, batch["seed"], self.augmentation)
        return x, labels

    def loss(self, output: Float[Array, "b h w k"], target: Int[Array, "b h w"]) -> jax.Array:
        """The configured segmentation loss."""
        return self._loss()(output, target)

    def _loss(self) -> Callable[[jax.Array, jax.Array], jax.Array]:
        return losses.get_segmentation_loss(
            self.loss_name, alpha=self.focal_alpha, gamma=self.focal_gamma
        )

    def validate(
        self, output: Float[Array, "b h w k"], target: Int[Array, "b h w"]
    ) -> dict[str, jax.Array]:
        """True positives, false positives and false negatives per slice and class."""
        prediction = jnp.argmax(output, axis=-1)
        return {"counts": overlap.confusion_counts(prediction, target, NUM_CLASSES)}

    def summarise(self, statistics: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Dice per class and its foreground mean, present-only.

        A slice counts for a class where truth or prediction has it; a class that
        occurs in no slice is left out of the mean.
        """
        scores, _ = overlap.mean_dice(statistics["counts"], "present_only")
        scores = np.asarray(scores)
        named = {f"dice_{name}": float(s) for name, s in zip(CLASSES, scores, strict=True)}
        return {"mean_foreground_dice": mean_of_present(scores[1:]), **named}


def mean_of_present(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the values that are not NaN; 0 when there is none (nothing was found)."""
    finite = np.asarray(values, np.float64)
    finite = finite[~np.isnan(finite)]
    return float(finite.mean()) if finite.size else 0.0
