"""Contrast of the lesion to the brain: each part of a tumour brighter or darker, by modality.

How bright oedema, necrosis and enhancing tumour are beside the brain differs more from patient to
patient than a few labelled patients show.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer

from brats_jax.data.augment_appearance import blurred, is_air
from brats_jax.data.modalities import CLASSES

Images = Float[jax.Array, "b h w c"]

PARTS = tuple(CLASSES.index(name) for name in ("NCR/NET", "ED", "ET"))
_SOFT = 1.0  # standard deviation in pixels of the blur of a part's border


def contrasted(
    images: Images,
    labels: Integer[jax.Array, "b h w"],
    factors: Float[jax.Array, "b r m"],
    background: Float[jax.Array, "b c"],
) -> Images:
    """Moves the mean of each part of the lesion nearer to that of the brain, or away from it.

        x' = x + sum_r w_r (f_r - 1) (mean of x in r - mean of x in the brain without lesion)

    w_r is the mask of part r, blurred, so that no new edge appears. A factor below 1 brings the
    part nearer to the brain, one below 0 makes a bright part dark. Where a patch lacks the part, or
    any brain without lesion, nothing changes.

    Args:
      images: the patches; the first m channels are those of the slice of the labels, the others
        those of further slices, which change alike.
      labels: of the patches.
      factors: f of each of the r `PARTS` and each modality; 1 leaves it as it is.
      background: the value of air of each channel.
    """
    modalities = factors.shape[2]
    own = images[..., :modalities]
    parts = (labels[..., None] == jnp.array(PARTS)).astype(images.dtype)
    air = is_air(own, background[:, :modalities])
    healthy = jnp.where(air | (labels > 0)[..., None], 0.0, 1.0)
    count = healthy.sum(axis=(1, 2))
    of_brain = (own * healthy).sum(axis=(1, 2)) / jnp.maximum(count, 1)
    size = parts.sum(axis=(1, 2))
    # At the highest precision: accelerators round the factors of products otherwise.
    inside = jnp.einsum("bhwr,bhwm->brm", parts, own, precision=jax.lax.Precision.HIGHEST)
    distance = inside / jnp.maximum(size, 1)[..., None] - of_brain[:, None]
    there = (size > 0)[..., None] & (count > 0)[:, None]
    change = jnp.where(there, (factors - 1) * distance, 0.0)
    soft = blurred(parts, jnp.full(parts.shape[::3], _SOFT), _SOFT)
    change = jnp.tile(change, (1, 1, images.shape[3] // modalities))
    added = jnp.einsum("bhwr,brc->bhwc", soft, change, precision=jax.lax.Precision.HIGHEST)
    return jnp.where((change == 0).all(axis=1)[:, None, None, :], images, images + added)
