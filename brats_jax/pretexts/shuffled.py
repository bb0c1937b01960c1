"""A control: the target is another person's, so that nothing but its statistics can be learned."""

from dataclasses import dataclass
from typing import ClassVar

from brats_jax.pretexts.cross_modality import CrossModality


@dataclass(frozen=True)
class Shuffled(CrossModality):
    """The configured inputs -> the configured targets of a random slice of another person.

    It is evaluated on the patient's own targets, as `cross_modality`.
    """

    name: ClassVar[str] = "shuffled"
    needs_donor: ClassVar[bool] = True
