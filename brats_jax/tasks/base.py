"""The base class of the two training stages."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from brats_jax.data.augment import Augmentation
from brats_jax.data.modalities import MODALITIES, channel_indices
from brats_jax.data.neighbours import channel_names, offsets, presence_names
from brats_jax.models import FUSIONS, Fusion
from brats_jax.models.cost import cost_of
from brats_jax.models.fusion import WEIGHTS

DEFAULT_FUSION = next(iter(FUSIONS))

Batch = Mapping[str, jax.Array]
Images = Float[Array, "b h w c"]


@dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """One training stage.

    Attributes:
      inputs: input modalities in channel order.
      context: slices on each side that are read too, as further channels (`data.neighbours`).
      width: channels of the encoder's stem.
      slope: of the decoder's activations below 0; 0 is ReLU.
      fusion_name: a key of `models.FUSIONS`: how the network fuses the modalities.
      fusion_weights: of encoders by modality, see `models.Fusion`.
      dtype: compute type of the network; parameters and the head are float32.
      augmentation: of training patches; None for none.
      name: 'pretrain' or 'segment'.
    """

    inputs: tuple[str, ...]
    context: int = 0
    width: int = 64
    slope: float = 0.0
    fusion_name: str = DEFAULT_FUSION
    fusion_weights: str = WEIGHTS[0]
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
    def takes_missing(self) -> bool:
        """Whether the network was trained for missing modalities, and reads which are there."""
        return False

    @property
    def stem_channels(self) -> tuple[str, ...]:
        """The channels of the network's input: the `stem`, of the slice and of its neighbours.

        Of a network that takes missing modalities, then those of presence.
        """
        presence = presence_names(self.stem) if self.takes_missing else ()
        return (*channel_names(self.stem, self.context), *presence)

    @property
    def fusion(self) -> Fusion:
        """How the network fuses the modalities of its input."""
        return Fusion(
            self.fusion_name, self.stem, self.slices_read, self.takes_missing, self.fusion_weights
        )

    @property
    def slices_read(self) -> int:
        """The slices that the network reads: the slice itself and its neighbours."""
        return 1 + 2 * self.context

    def read(self, images: Images, batch: Batch, places: Sequence[int]) -> Images:
        """Modalities of the slices of a batch, and of their neighbours behind them.

        Args:
          images: float32[B, H, W, 4] of the batch.
          batch: with a context `neighbours` [B, H, W, 8 context].
          places: positions of the modalities in the images.

        Returns:
          float32[B, H, W, len(places) * slices_read], slice by slice.
        """
        own = images[..., jnp.array(places)]
        if not self.context:
            return own
        near = batch["neighbours"].astype(jnp.float32)[..., self._beside(places)]
        return jnp.concatenate([own, near], axis=-1)

    def background(self, batch: Batch, places: Sequence[int]) -> jax.Array:
        """Values outside the head, of the channels of `read`: [B, len(places) * slices_read]."""
        own = batch["background"][:, jnp.array(places)]
        if not self.context:
            return own
        near = batch["neighbours_background"][:, self._beside(places)]
        return jnp.concatenate([own, near], axis=-1)

    def _beside(self, places: Sequence[int]) -> jax.Array:
        """Positions of modalities of all neighbours among the channels of `neighbours`."""
        count = len(offsets(self.context))
        return jnp.array([len(MODALITIES) * k + place for k in range(count) for place in places])

    @property
    def slice_facts(self) -> frozenset[str]:
        """Names of the `data.slice_facts` that a slice must come with, besides image and label."""
        return frozenset()

    @abc.abstractmethod
    def build(self, seed: int) -> nnx.Module:
        """A newly initialised network."""

    def build_to_train(self, seed: int) -> nnx.Module:
        """The network of `build`, perhaps with parts for its loss alone (`models.AUXILIARY`)."""
        return self.build(seed)

    def cost_note(self, patch_size: int) -> str:
        """A line on the numbers of parameters, and of multiplications for a patch."""
        patch = (patch_size, patch_size, len(self.stem_channels))
        cost = cost_of(lambda: self.build(0), patch)
        return f"{cost.words()} for a patch of {patch_size} x {patch_size}"

    @classmethod
    @abc.abstractmethod
    def described_by(cls, description: Mapping[str, Any], dtype: DTypeLike) -> Self:
        """The task of a description; raises LookupError or TypeError for an unknown one."""

    def describe(self) -> dict[str, Any]:
        """The JSON-able identity of a checkpoint's network; `task_of` reads it."""
        found = {
            "task": self.name,
            "inputs": list(self.stem),
            "outputs": list(self.outputs),
            "width": self.width,
        }
        if self.context:  # checkpoints of earlier versions do not have it
            found["context"] = self.context
        if self.slope:
            found["slope"] = self.slope
        if self.fusion_name != DEFAULT_FUSION:
            found["fusion"] = self.fusion_name
        if self.fusion_weights != WEIGHTS[0]:
            found["fusion_weights"] = self.fusion_weights
        return found

    @staticmethod
    def described_fusion(description: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a task that say how its network fuses; raises LookupError if unknown."""
        name = description.get("fusion", DEFAULT_FUSION)
        weights = description.get("fusion_weights", WEIGHTS[0])
        if name not in FUSIONS or weights not in WEIGHTS:
            raise LookupError(f"no fusion '{name}' with weights '{weights}'")
        return {"fusion_name": name, "fusion_weights": weights}

    @abc.abstractmethod
    def prepare(self, batch: Batch, *, training: bool) -> tuple[Images, Any]:
        """Network input and target of a batch, augmented when training.

        Args:
          batch: `image` [B, H, W, 4], one channel per modality, and `label` uint8[B, H, W];
            for training also `seed` uint32[B]. `present` bool[B, 4] where modalities are missing;
            left out, all are there. `neighbours` with a context (see `read`).
          training: whether to augment.

        Returns:
          input float32[B, H, W, C]; target, as `loss` and `validate` take it.
        """

    @abc.abstractmethod
    def test_input(self, batch: Batch) -> jax.Array:
        """The network's input for prediction, float32[B, H, W, C].

        Args:
          batch: `image` [B, H, W, 4], and `neighbours` with a context (see `read`). Of a network
            that takes missing modalities also `present` bool[B, 4], by the order of `MODALITIES`;
            left out, all are there.
        """

    @abc.abstractmethod
    def result(self, output: jax.Array) -> jax.Array:
        """The prediction, labels or images, from the network's output."""

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
