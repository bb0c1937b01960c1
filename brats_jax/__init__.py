"""Self-supervised brain tumour segmentation on multi-modal MRI, in JAX/Flax.

import brats_jax

model = brats_jax.load("RUN")
labels = model.segment({"t1": t1, "t1gd": t1gd, "t2": t2, "flair": flair})
"""

from typing import TYPE_CHECKING

from brats_jax.about import RESEARCH_USE_ONLY, __version__

if TYPE_CHECKING:
    from brats_jax.inference.loading import load

__all__ = ["RESEARCH_USE_ONLY", "__version__", "load"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    # Imported on first use, because it imports JAX.
    if name == "load":
        from brats_jax.inference.loading import load

        return load
    raise AttributeError(f"module 'brats_jax' has no attribute '{name}'")
