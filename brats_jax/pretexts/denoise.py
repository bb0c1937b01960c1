"""Removes noise that was added to the input.

Reference: Vincent et al. 2008, https://doi.org/10.1145/1390156.1390294
"""

from dataclasses import dataclass
from typing import ClassVar

import jax

from brats_jax.pretexts.autoencode import Autoencode
from brats_jax.pretexts.base import Example, Images, Present, Seeds, by_channel, keys_of


@dataclass(frozen=True)
class Denoise(Autoencode):
    """The configured inputs with Gaussian noise -> the same without."""

    name: ClassVar[str] = "denoise"
    is_random: ClassVar[bool] = True

    def example(
        self,
        inputs: Images,
        targets: Images,
        inputs_present: Present,
        targets_present: Present,
        seeds: Seeds,
    ) -> Example:
        """See `Pretext.example`. Missing modalities stay 0."""
        size = inputs[0].size
        # Drawn flat: with the shape of the image, compilation takes longer.
        noise = jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys_of(seeds))
        noise = self.options.noise * noise.reshape(inputs.shape)
        if (there := by_channel(inputs_present)) is not None:
            noise = noise * self.of_every_slice(there)
        return Example(inputs + noise, targets, by_channel(targets_present))
