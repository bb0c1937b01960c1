"""Predicts every modality of a patient from a random part of them.

Reference: Zhou et al. 2020 (Hi-Net), https://arxiv.org/abs/2002.05000; Sharma & Hamarneh 2020
(MM-GAN, any subset of modalities to the others), https://arxiv.org/abs/1904.12200
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from brats_jax.pretexts.base import (
    AllModalities,
    Example,
    Images,
    Present,
    Seeds,
    by_channel,
    keys_of,
)


@dataclass(frozen=True)
class AnyToAny(AllModalities):
    """A random non-empty part of what a patient has, the rest zero -> all that it has.

    Every such part is equally likely. It is evaluated on the configured inputs -> the configured
    targets, as `cross_modality`, and predicts these.
    """

    name: ClassVar[str] = "any_to_any"
    is_random: ClassVar[bool] = True

    @property
    def tested(self) -> tuple[int, ...]:
        """The configured targets."""
        return self.targets

    @property
    def test_needs(self) -> tuple[int, ...]:
        """The configured inputs and targets, as in `cross_modality`."""
        return tuple(dict.fromkeys((*self.inputs, *self.targets)))

    def example(
        self,
        inputs: Images,
        targets: Images,
        inputs_present: Present,
        targets_present: Present,
        seeds: Seeds,
    ) -> Example:
        """See `Pretext.example`."""
        batch, channels = len(inputs), inputs.shape[-1] // self.slices
        there = jnp.ones((batch, channels), bool)
        if inputs_present is not None:
            there = jnp.asarray(inputs_present)
        # Part number n of 1 to 2^m - 1, of a patient with m modalities: bit k of n says whether
        # its k-th modality is kept.
        count = there.sum(axis=1)
        uniform = jax.vmap(lambda key: jax.random.uniform(key, ()))(keys_of(seeds))
        parts = jnp.left_shift(1, count) - 1
        number = 1 + jnp.minimum(jnp.floor(uniform * parts).astype(parts.dtype), parts - 1)
        rank = jnp.cumsum(there, axis=1) - 1
        kept = there & (jnp.right_shift(number[:, None], rank) % 2 == 1)
        kept = self.of_every_slice(kept)
        return Example(
            jnp.where(kept[:, None, None, :], inputs, 0.0), targets, by_channel(targets_present)
        )

    def test_example(
        self,
        inputs: Images,
        targets: Images,
        inputs_present: Present,
        targets_present: Present,
        seeds: Seeds,
    ) -> Example:
        """The configured inputs, the rest zero."""
        channels = inputs.shape[-1] // self.slices
        kept = self.of_every_slice(jnp.isin(jnp.arange(channels), jnp.array(self.inputs)))
        return Example(jnp.where(kept, inputs, 0.0), targets, by_channel(targets_present))
