"""How an encoder makes its maps from several modalities: a file for each fusion.

Every one keeps the contract of `resnet.ResNet50`, so decoders do not change.
"""

from collections.abc import Callable
from typing import Any

from brats_jax.models.fusion.attention import AttentionEncoders
from brats_jax.models.fusion.base import WEIGHTS, Fusion
from brats_jax.models.fusion.early import early
from brats_jax.models.fusion.encoders import Encoders
from brats_jax.models.fusion.stem import Stems

__all__ = ["FUSIONS", "WEIGHTS", "Fusion"]

# By name, the default first; called as `FUSIONS[name](fusion, width=..., dtype=..., rngs=...)`.
FUSIONS: dict[str, Callable[..., Any]] = {
    "early": early,
    "encoders": Encoders,
    "attention": AttentionEncoders,
    "stem": Stems,
}
