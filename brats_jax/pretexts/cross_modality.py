"""Predicts modalities from others: the pretext of the paper."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from brats_jax.pretexts.base import Example, Images, Present, Pretext, Seeds, by_channel


@dataclass(frozen=True)
class CrossModality(Pretext):
    """The configured inputs -> the configured targets.

    Patients that lack an input do not count, nor does a target that is missing.
    """

    name: ClassVar[str] = "cross_modality"

    def example(
        self,
        inputs: Images,
        targets: Images,
        inputs_present: Present,
        targets_present: Present,
        seeds: Seeds,
    ) -> Example:
        """See `Pretext.example`."""
        weight = by_channel(targets_present)
        if weight is not None and inputs_present is not None:
            weight = weight * jnp.all(inputs_present, axis=1)[:, None, None, None]
        return Example(inputs, targets, weight)
