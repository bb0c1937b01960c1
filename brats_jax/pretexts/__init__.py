"""The tasks of the first stage: a file for each pretext, and the registry that finds them.

A pretext turns images into input, target and weight of an example; it sees arrays alone.
"""

from brats_jax.pretexts.base import Example, Options, Pretext
from brats_jax.pretexts.registry import DEFAULT, PRETEXTS

__all__ = ["DEFAULT", "PRETEXTS", "Example", "Options", "Pretext"]
