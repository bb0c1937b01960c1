"""The brain of a normalised slice: the one rule of losses, metrics and pictures."""

import jax
import jax.numpy as jnp
import numpy as np


def brain_mask(
    images: jax.Array | np.ndarray, background: jax.Array | np.ndarray | None = None
) -> jax.Array:
    """bool[B, H, W]: pixels that differ, in any modality, from the slice's background.

    Slices are skull-stripped, so that their corner is air. Its value depends on the normalisation
    (the slice's minimum, or 0). A store has it for every slice.

    Args:
      images: [B, H, W, C], whole slices or patches of them.
      background: [B, C]; None: the first pixel of each image, which must be a whole slice.
    """
    if background is None:
        return (images != images[:, :1, :1, :]).any(axis=-1)  # type: ignore[return-value]
    return (images != jnp.asarray(background)[:, None, None, :]).any(axis=-1)
