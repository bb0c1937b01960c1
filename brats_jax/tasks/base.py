"""The class of both training stages: all that differs between them is in its subclasses."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from brats_jax.data.augment import Augmentation
from brats_jax.data.modalities import channel_indices

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
    """

    inputs: tuple[str, ...]
    width: int = 64
    dtype: DTypeLike = jnp.float32
    augmentation: Augmentation | None = None

    name: ClassVar[str]

    @property
    @abc.abstractmethod
    def metric(self) -> str:
        """Name of the validation score that selects the best checkpoint."""

    @property
    @abc.abstractmethod
    def larger_is_better(self) -> bool:
        """Whether a larger `metric` is better."""

    @property
    def validates_volumes(self) -> bool:
        """Whether the validation needs all slices of its patients, not those of the stage alone."""
        return False

    @property
    @abc.abstractmethod
    def outputs(self) -> tuple[str, ...]:
        """The network's output channels: modalities, classes or regions."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The modalities without which a patient is of no use to this task."""
        return self.inputs

    def usable(self, present: np.ndarray) -> np.ndarray:
        """bool[P]: patients that the task can use, by the modalities present bool[P, 4]."""
        return np.asarray(present[:, channel_indices(self.needs)].all(axis=1))

    @property
    def test_needs(self) -> tuple[str, ...]:
        """The modalities without which a patient cannot be evaluated."""
        return self.needs

    def testable(self, present: np.ndarray) -> np.ndarray:
        """bool[P]: patients that can be evaluated, by the modalities present bool[P, 4]."""
        complete = present[:, channel_indices(self.test_needs)].all(axis=1)
        return np.asarray(self.usable(present) & complete)

    def computing_in(self, dtype: DTypeLike) -> Self:
        """The same task with another compute type; its parameters stay the same."""
        return replace(self, dtype=dtype)

    @property
    def stem(self) -> tuple[str, ...]:
        """The modalities that the network reads, in channel order."""
        return self.inputs

    @property
    def wants(self) -> frozenset[str]:
        """What a slice must come with besides image and label: see `data.slice_facts`."""
        return frozenset()

    @abc.abstractmethod
    def build(self, seed: int) -> nnx.Module:
        """A newly initialised network."""

    def build_to_train(self, seed: int) -> nnx.Module:
        """The network of `build`, perhaps with parts for its loss alone (`models.AUXILIARY`)."""
        return self.build(seed)

    @classmethod
    @abc.abstractmethod
    def described_by(cls, description: Mapping[str, Any], dtype: DTypeLike) -> Self:
        """The task of a description; raises LookupError or TypeError for an unknown one."""

    def describe(self) -> dict[str, Any]:
        """The JSON-able identity of a checkpoint's network; `task_of` reads it."""
        return {
            "task": self.name,
            "inputs": list(self.stem),
            "outputs": list(self.outputs),
            "width": self.width,
        }

    @abc.abstractmethod
    def prepare(self, batch: Batch, *, training: bool) -> tuple[Images, Any]:
        """Network input and target of a batch, augmented when training.

        Args:
          batch: `image` [B, H, W, 4], one channel per modality, and `label` uint8[B, H, W];
            for training also `seed` uint32[B]. `present` bool[B, 4] where modalities are missing.
          training: whether to augment.

        Returns:
          input float32[B, H, W, C]; target, as `loss` and `validate` take it.
        """

    @abc.abstractmethod
    def test_input(self, images: jax.Array) -> jax.Array:
        """The network's input for prediction: from [B, H, W, 4] to float32[B, H, W, C]."""

    @abc.abstractmethod
    def result(self, output: jax.Array) -> jax.Array:
        """What is predicted, from the network's output: labels or images."""

    @abc.abstractmethod
    def loss(self, output: jax.Array, target: Any) -> jax.Array:
        """The scalar training loss."""

    @abc.abstractmethod
    def validate(self, output: jax.Array, target: Any) -> dict[str, jax.Array]:
        """Sufficient statistics of each slice, each [B, ...]; runs on the devices."""

    @abc.abstractmethod
    def summarise(self, statistics: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Validation scores from the statistics of all slices; includes `metric`.

        Args:
          statistics: of `validate`, [n, ...], and `patient` int[n], the patient of each slice.
        """
