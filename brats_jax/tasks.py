"""The two training stages: their modalities, network, loss and validation score.

All that differs between the stages is here; one training loop serves both. To add another
pretraining task, subclass `Task` and enter it in `TASKS`.
"""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from brats_jax import losses
from brats_jax.data.augment import Augmentation, augment
from brats_jax.data.modalities import CLASSES, MODALITIES, NUM_CLASSES, channel_indices
from brats_jax.errors import BratsError
from brats_jax.metrics import overlap
from brats_jax.models import ReconstructionModel, SegmentationModel

Batch = Mapping[str, jax.Array]
Images = Float[Array, "b h w c"]


@dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """One training stage.

    Attributes:
      inputs: input modalities in channel order.
      width: channels of the encoder's stem.
      dtype: compute type of the network; parameters and the head are float32.
      augmentation: of training patches; None for none.
      name: 'pretrain' or 'segment'.
      metric: name of the validation score that selects the best checkpoint.
      larger_is_better: whether a larger `metric` is better.
    """

    inputs: tuple[str, ...]
    width: int = 64
    dtype: DTypeLike = jnp.float32
    augmentation: Augmentation | None = None

    name: ClassVar[str]
    metric: ClassVar[str]
    larger_is_better: ClassVar[bool]
    network: ClassVar[type[ReconstructionModel] | type[SegmentationModel]]

    @property
    @abc.abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """The network's output channels: modalities or classes."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The modalities without which a patient is of no use to this task."""
        return self.inputs

    def usable(self, present: np.ndarray) -> np.ndarray:
        """bool[P]: patients that the task can use, by the modalities present bool[P, 4]."""
        return np.asarray(present[:, channel_indices(self.needs)].all(axis=1))

    def computing_in(self, dtype: DTypeLike) -> Self:
        """The same task with another compute type; its parameters stay the same."""
        return replace(self, dtype=dtype)

    def build(self, seed: int) -> nnx.Module:
        """A newly initialised network."""
        return self.network(
            len(self.inputs), width=self.width, dtype=self.dtype, rngs=nnx.Rngs(seed)
        )

    def describe(self) -> dict[str, Any]:
        """The JSON-able identity of a checkpoint's network; `task_of` reads it."""
        return {
            "task": self.name,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "width": self.width,
        }

    def prepare(self, batch: Batch, *, training: bool) -> tuple[Images, jax.Array]:
        """Network input and target of a batch, augmented when training.

        Args:
          batch: `image` [B, H, W, 4], one channel per modality, and `label` uint8[B, H, W];
            for training also `seed` uint32[B]. `present` bool[B, 4] where modalities are missing.
          training: whether to augment.

        Returns:
          input float32[B, H, W, C]; target float32[B, H, W, 1] or uint8[B, H, W].
        """
        images = batch["image"].astype(jnp.float32)
        x = _select(images, self.inputs)
        image, labels = self._target(images, batch)
        if training and self.augmentation is not None:
            x, image, labels = augment(x, image, labels, batch["seed"], self.augmentation)
        target = labels if image is None else image
        assert target is not None
        return x, target

    @abc.abstractmethod
    def _target(
        self, images: Images, batch: Batch
    ) -> tuple[Images | None, UInt8[Array, "b h w"] | None]:
        """The target before augmentation: (image, None) or (None, labels)."""

    @abc.abstractmethod
    def loss(self, output: jax.Array, target: jax.Array) -> jax.Array:
        """The scalar training loss."""

    @abc.abstractmethod
    def validate(self, output: jax.Array, target: jax.Array) -> dict[str, jax.Array]:
        """Sufficient statistics of each slice, each [B, ...]; runs on the devices."""

    @abc.abstractmethod
    def summarise(self, statistics: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Validation scores from the statistics of all slices; includes `metric`."""


@dataclass(frozen=True, kw_only=True)
class Pretraining(Task):
    """Stage 1: predict one modality from others by mean squared error.

    Attributes:
      target: the modality to predict.
    """

    inputs: tuple[str, ...] = ("t1", "t1gd")
    target: str = "flair"

    name: ClassVar[str] = "pretrain"
    metric: ClassVar[str] = "mse"
    larger_is_better: ClassVar[bool] = False
    network: ClassVar = ReconstructionModel

    @property
    def outputs(self) -> tuple[str, ...]:
        """The target modality."""
        return (self.target,)

    @property
    def needs(self) -> tuple[str, ...]:
        """The inputs and the target."""
        return (*self.inputs, self.target)

    def _target(self, images: Images, batch: Batch) -> tuple[Images, None]:
        return _select(images, [self.target]), None

    def loss(self, output: Float[Array, "b h w 1"], target: Float[Array, "b h w 1"]) -> jax.Array:
        """Mean squared error."""
        return losses.mse(output, target)

    def validate(
        self, output: Float[Array, "b h w 1"], target: Float[Array, "b h w 1"]
    ) -> dict[str, jax.Array]:
        """The mean squared error of each slice."""
        return {"mse": jnp.mean(jnp.square(output - target), axis=(1, 2, 3))}

    def summarise(self, statistics: Mapping[str, np.ndarray]) -> dict[str, float]:
        """The mean over slices, which equals the mean over pixels: all slices have one size."""
        return {"mse": float(statistics["mse"].mean())}


@dataclass(frozen=True, kw_only=True)
class Segmentation(Task):
    """Stage 2: background, NCR/NET, ED and ET from four modalities.

    Attributes:
      loss_name: a key of `losses.SEGMENTATION_LOSSES`.
      focal_gamma, focal_alpha: see `losses.focal`.
    """

    inputs: tuple[str, ...] = ("t1", "t1gd", "t2", "flair")
    loss_name: str = "dice_ce"
    focal_gamma: float = 2.0
    focal_alpha: tuple[float, ...] | None = None

    name: ClassVar[str] = "segment"
    metric: ClassVar[str] = "mean_foreground_dice"
    larger_is_better: ClassVar[bool] = True
    network: ClassVar = SegmentationModel

    @property
    def outputs(self) -> tuple[str, ...]:
        """The classes."""
        return tuple(CLASSES)

    def _target(self, images: Images, batch: Batch) -> tuple[None, UInt8[Array, "b h w"]]:
        return None, batch["label"]

    def loss(self, output: Float[Array, "b h w k"], target: Int[Array, "b h w"]) -> jax.Array:
        """The segmentation loss called `loss_name`."""
        loss = losses.get_segmentation_loss(
            self.loss_name, alpha=self.focal_alpha, gamma=self.focal_gamma
        )
        return loss(output, target)

    def validate(
        self, output: Float[Array, "b h w k"], target: Int[Array, "b h w"]
    ) -> dict[str, jax.Array]:
        """True positives, false positives and false negatives of each slice and class."""
        prediction = jnp.argmax(output, axis=-1)
        return {"counts": overlap.confusion_counts(prediction, target, NUM_CLASSES)}

    def summarise(self, statistics: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Dice of each class, and the mean of the foreground classes.

        A slice counts for a class that is in its truth or its prediction (present-only). A class
        that is in no slice is left out of the mean; without any foreground the mean is 0.
        """
        dice = overlap.mean_dice(statistics["counts"], "present_only").dice
        present = dice[1:][~np.isnan(dice[1:])]
        return {
            "mean_foreground_dice": float(present.mean()) if present.size else 0.0,
            **{f"dice_{name}": float(d) for name, d in zip(CLASSES, dice, strict=True)},
        }


TASKS: dict[str, type[Task]] = {task.name: task for task in (Pretraining, Segmentation)}


def task_of(description: Mapping[str, Any], dtype: DTypeLike = jnp.float32) -> Task:
    """The task whose `describe` gave `description`: builds the network of a checkpoint.

    Loss and augmentation, which a description leaves out, have their defaults.

    Args:
      description: 'task', 'inputs', 'outputs' and 'width', as in a checkpoint's `model`.
      dtype: compute type of the network.

    Raises:
      BratsError: the description is of no network of this version.
    """
    try:
        kind, outputs = TASKS[description["task"]], description["outputs"]
        target = {"target": outputs[0]} if kind is Pretraining else {}
        task = kind(
            inputs=tuple(description["inputs"]), width=description["width"], dtype=dtype, **target
        )
        known = task.describe() == description and {*task.inputs, *target.values()} <= {*MODALITIES}
    except (LookupError, TypeError):
        known = False
    if not known:
        raise BratsError(
            f"checkpoint of an unknown network ({description}); use the version of this program "
            "that wrote it, or train again"
        )
    return task


def _select(images: Images, modalities: Sequence[str]) -> Images:
    return images[..., jnp.array(channel_indices(modalities))]
