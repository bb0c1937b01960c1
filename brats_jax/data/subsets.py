"""The non-empty subsets of the modalities, in the order in which the literature prints them.

Tables on missing modalities have a column for each subset and a row of dots for each modality.

Reference: Ding et al. 2021 (RFNet),
https://openaccess.thecvf.com/content/ICCV2021/html/Ding_RFNet_Region-Aware_Fusion_Network_for_Incomplete_Multi-Modal_Brain_Tumor_ICCV_2021_paper.html
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from brats_jax.data.modalities import MODALITIES, channel_indices, display_list

Batch = Mapping[str, jax.Array]
Subset = tuple[str, ...]

# The rows of these tables, from top to bottom.
ROWS: tuple[str, ...] = ("flair", "t1", "t1gd", "t2")
# Their columns, from left to right.
SUBSETS: tuple[Subset, ...] = (
    ("t2",),
    ("t1gd",),
    ("t1",),
    ("flair",),
    ("t1gd", "t2"),
    ("t1", "t1gd"),
    ("flair", "t1"),
    ("t1", "t2"),
    ("flair", "t2"),
    ("flair", "t1gd"),
    ("flair", "t1", "t1gd"),
    ("flair", "t1", "t2"),
    ("flair", "t1gd", "t2"),
    ("t1", "t1gd", "t2"),
    ("flair", "t1", "t1gd", "t2"),
)  # fmt: skip
_THERE, _MISSING = "●", "○"


def subsets_of(inputs: Sequence[str]) -> tuple[Subset, ...]:
    """The non-empty subsets of some modalities, 2^n - 1 of n; the last one is all of them.

    >>> subsets_of(("t1", "flair"))
    (('t1',), ('flair',), ('flair', 't1'))
    """
    return tuple(subset for subset in SUBSETS if set(subset) <= {*inputs})


def subset_name(subset: Sequence[str]) -> str:
    """A subset in one word, as in files: 'flair+t1gd'."""
    return "+".join(name for name in ROWS if name in subset)


def subset_words(subset: Sequence[str]) -> str:
    """A subset as it is shown: 'FLAIR, T1Gd'."""
    return display_list([name for name in ROWS if name in subset])


def dots(subset: Sequence[str], inputs: Sequence[str] = ROWS) -> str:
    """A dot for each modality of `inputs` in the order of `ROWS`: '●○●○' is FLAIR and T1Gd."""
    return "".join(_THERE if name in subset else _MISSING for name in ROWS if name in inputs)


def as_mask(subset: Sequence[str]) -> Bool[np.ndarray, "4"]:
    """A subset as bool[4], in the order of `MODALITIES`."""
    mask = np.zeros(len(MODALITIES), bool)
    mask[list(channel_indices(subset))] = True
    return mask


def keep_only(batch: Batch, given: Bool[jax.Array, "4"]) -> dict[str, jax.Array]:
    """A batch whose other modalities are missing: their channels are 0, whatever was in them.

    Args:
      batch: `image` [B, H, W, 4], with a context `neighbours` [B, H, W, 4 k].
      given: the modalities to keep.

    Returns:
      the batch with `present` bool[B, 4].
    """
    image = batch["image"]
    found = {**batch, "image": jnp.where(given, image, jnp.zeros((), image.dtype))}
    if "neighbours" in batch:
        near = batch["neighbours"]
        of_each = jnp.tile(given, near.shape[-1] // len(MODALITIES))
        found["neighbours"] = jnp.where(of_each, near, jnp.zeros((), near.dtype))
    there = jnp.broadcast_to(given, (image.shape[0], len(MODALITIES)))
    found["present"] = there & batch["present"] if "present" in batch else there
    return found
