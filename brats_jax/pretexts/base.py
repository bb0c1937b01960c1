"""The class of every pretext. A new one is a file in this package with a subclass."""

import abc
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt32

MODALITIES = 4  # channels of the images

# Told apart from the random numbers of augmentation, which uses the same seeds.
_PURPOSE = 0x9E37

Images = Float[Array, "b h w c"]
Present = Bool[Array, "b c"] | None
Seeds = UInt32[Array, " b"] | None


class Example(NamedTuple):
    """Examples for the network.

    Attributes:
      input: float32[B, H, W, I].
      target: float32[B, H, W, K].
      weight: 0 or 1, of a shape that broadcasts to the target: what counts in the loss. None: all.
    """

    input: jax.Array
    target: jax.Array
    weight: jax.Array | None = None


@dataclass(frozen=True)
class Options:
    """The parameters of the pretexts.

    Attributes:
      mask_ratio: share of the blocks that `masked` hides: one number, or the lowest and the
        highest, between which every example draws its own.
      mask_block: side of a block in pixels.
      mask_together: hide the same blocks in all modalities; else each has its own.
      noise: standard deviation of the noise that `denoise` adds, in units of the z-scored images.
    """

    mask_ratio: tuple[float, ...] = (0.6, 0.75)
    mask_block: int = 16
    mask_together: bool = True
    noise: float = 0.5


@dataclass(frozen=True)
class Pretext(abc.ABC):
    """A task of the first stage, as pure functions of arrays.

    All randomness is a function of the seed of an example: neither of its batch nor of the devices.

    Attributes:
      inputs, targets: positions of the configured modalities in the images.
      options: the parameters.
      slices: whose modalities are in the input, slice by slice, the example's own first; the
        others are its neighbours, which take part in everything that is done to a modality.
      name: as in `config.pretrain.task`.
      synthesises: whether the outputs are predicted from other modalities of the same slice.
      needs_donor: whether the target is of another person's slice.
      is_random: whether examples depend on their seeds.
      hides: whether the target is what the input hides, pixel by pixel.
    """

    inputs: tuple[int, ...]
    targets: tuple[int, ...]
    options: Options = Options()
    slices: int = 1

    name: ClassVar[str]
    synthesises: ClassVar[bool] = True
    needs_donor: ClassVar[bool] = False
    is_random: ClassVar[bool] = False
    hides: ClassVar[bool] = False

    @property
    def reads(self) -> tuple[int, ...]:
        """The modalities of the network's input."""
        return self.inputs

    @property
    def predicts(self) -> tuple[int, ...]:
        """The modalities of the network's output."""
        return self.targets

    @property
    def tested(self) -> tuple[int, ...]:
        """Those outputs that are evaluated."""
        return self.predicts

    @property
    def synthetic(self) -> tuple[int, ...]:
        """The configured targets, if they are predicted from other modalities; else none."""
        return self.targets if self.synthesises else ()

    @abc.abstractmethod
    def example(
        self,
        inputs: Images,
        targets: Images,
        inputs_present: Present,
        targets_present: Present,
        seeds: Seeds,
    ) -> Example:
        """Input, target and weight for training and validation.

        Args:
          inputs: float32[B, H, W, I * slices], the modalities `reads` of each slice; augmented in
            training.
          targets: float32[B, H, W, K], the modalities `predicts`, of a donor if `needs_donor`;
            turned as the inputs, but of unchanged intensity.
          inputs_present: bool[B, I], which inputs the patients have; None: all.
          targets_present: bool[B, K], which targets they have; None: all.
          seeds: uint32[B]; None where nothing is random.
        """

    def test_example(
        self,
        inputs: Images,
        targets: Images,
        inputs_present: Present,
        targets_present: Present,
        seeds: Seeds,
    ) -> Example:
        """The same for evaluation and prediction."""
        return self.example(inputs, targets, inputs_present, targets_present, seeds)

    def of_every_slice(self, values: jax.Array) -> jax.Array:
        """[..., I] of the modalities as [..., I * slices], equal for all slices."""
        if self.slices == 1:
            return values
        return jnp.tile(values, (*[1] * (values.ndim - 1), self.slices))

    @property
    def needs(self) -> tuple[int, ...]:
        """The modalities without which a patient is of no use; () if any one is enough."""
        return tuple(dict.fromkeys((*self.reads, *self.predicts)))

    @property
    def test_needs(self) -> tuple[int, ...]:
        """The same for the patients of an evaluation."""
        return self.needs

    def usable(self, present: np.ndarray) -> np.ndarray:
        """bool[P]: the patients to learn from, of the modalities bool[P, 4] that they have."""
        present = np.asarray(present)
        return np.asarray(present.any(axis=1) & present[:, list(self.needs)].all(axis=1))


class AllModalities(Pretext):
    """A pretext that reads and predicts every modality, of patients that have any."""

    @property
    def reads(self) -> tuple[int, ...]:
        """All modalities."""
        return tuple(range(MODALITIES))

    @property
    def predicts(self) -> tuple[int, ...]:
        """All modalities."""
        return tuple(range(MODALITIES))

    @property
    def needs(self) -> tuple[int, ...]:
        """Any one modality is enough."""
        return ()


def keys_of(seeds: Seeds) -> Key[Array, " b"]:
    """One key for each example."""
    assert seeds is not None

    # The generator is named: the default of the user may depend on the batch under `vmap`.
    def key(seed: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), _PURPOSE)

    return jax.vmap(key)(jnp.asarray(seeds))


def by_channel(present: Present) -> Float[Array, "b 1 1 c"] | None:
    """What the patients have, as a weight of images."""
    return None if present is None else present[:, None, None, :].astype(jnp.float32)
