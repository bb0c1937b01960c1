"""Predicts hidden blocks from the visible ones.

Reference: He et al. 2022 (masked autoencoders), https://arxiv.org/abs/2111.06377;
Xie et al. 2022 (SimMIM, of which this is the form for convolutions),
https://arxiv.org/abs/2111.09886
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

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
class Masked(AllModalities):
    """All modalities with random blocks set to zero -> what was hidden, which alone counts."""

    name: ClassVar[str] = "masked"
    synthesises: ClassVar[bool] = False
    is_random: ClassVar[bool] = True
    hides: ClassVar[bool] = True

    def example(
        self,
        inputs: Images,
        targets: Images,
        inputs_present: Present,
        targets_present: Present,
        seeds: Seeds,
    ) -> Example:
        """See `Pretext.example`."""
        channels = inputs.shape[3] // self.slices
        hidden = self.hidden(seeds, inputs.shape[1], inputs.shape[2], channels)
        weight = hidden.astype(jnp.float32)
        if (there := by_channel(targets_present)) is not None:
            weight = weight * there
        return Example(jnp.where(self.of_every_slice(hidden), 0.0, inputs), targets, weight)

    def hidden(
        self, seeds: Seeds, height: int, width: int, channels: int
    ) -> Bool[Array, "b h w c"]:
        """The hidden pixels: whole blocks, those at the bottom and the right cut off.

        Of n blocks round(ratio * n) are hidden, at least one and not all.
        """
        block = self.options.mask_block
        rows, columns = -(-height // block), -(-width // block)
        count = rows * columns
        masks = 1 if self.options.mask_together else channels
        low, high = self.options.mask_ratio[0], self.options.mask_ratio[-1]

        def of_one(key: jax.Array) -> jax.Array:
            drawn = jax.random.uniform(key, (masks * count + 1,))
            ratio = low + (high - low) * drawn[-1]
            several = jnp.clip(jnp.round(ratio * count), 1, max(1, count - 1)).astype(jnp.int32)
            chance = drawn[:-1].reshape(masks, count)
            # Below the value of rank `several`: so many are smaller, but for rare ties.
            limit = jnp.sort(chance, axis=1).at[:, several].get(mode="fill", fill_value=2.0)
            return (chance < limit[:, None]).reshape(masks, rows, columns)

        blocks = jnp.moveaxis(jax.vmap(of_one)(keys_of(seeds)), 1, -1)
        pixels = jnp.repeat(jnp.repeat(blocks, block, axis=1), block, axis=2)
        shape = (len(pixels), height, width, channels)
        return jnp.broadcast_to(pixels[:, :height, :width], shape)
