"""Prediction with trained models: from scans to labels, probabilities and files."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brats_jax.inference.model import Model, load

__all__ = ["Model", "load"]


def __getattr__(name: str) -> object:
    # Imported on first use: the model brings JAX with it.
    if name in __all__:
        from brats_jax.inference import model

        return getattr(model, name)
    raise AttributeError(f"module 'brats_jax.inference' has no attribute '{name}'")
