"""Prediction with trained models: from scans to labels, probabilities and files."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brats_jax.inference.loading import load
    from brats_jax.inference.model import Model

__all__ = ["Model", "load"]


def __getattr__(name: str) -> object:
    # Imported on first use: both modules import JAX.
    if name == "load":
        from brats_jax.inference.loading import load

        return load
    if name == "Model":
        from brats_jax.inference.model import Model

        return Model
    raise AttributeError(f"module 'brats_jax.inference' has no attribute '{name}'")
