"""A control: input and target are the same images."""

from dataclasses import dataclass
from typing import ClassVar

from brats_jax.pretexts.base import Example, Images, Present, Pretext, Seeds, by_channel


@dataclass(frozen=True)
class Autoencode(Pretext):
    """The configured inputs -> the same."""

    name: ClassVar[str] = "autoencode"
    synthesises: ClassVar[bool] = False

    @property
    def predicts(self) -> tuple[int, ...]:
        """The inputs."""
        return self.inputs

    def example(
        self,
        inputs: Images,
        targets: Images,
        inputs_present: Present,
        targets_present: Present,
        seeds: Seeds,
    ) -> Example:
        """See `Pretext.example`."""
        return Example(inputs, targets, by_channel(targets_present))
