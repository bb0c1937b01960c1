"""Missing modalities in a network's input: the only place that hides, encodes and draws them.

A network that takes missing modalities reads, behind its images, one channel for each modality:
1 in every pixel where the patient has the modality, 0 where it is missing. The images of a missing
modality are exactly 0 in the slice and in its neighbours. `hidden` selects and does not multiply,
so a missing channel may hold any number, NaN included.

    images    t1  t1gd  t2  flair  [t1@-1 ...]    as `tasks.Task.read` orders them
    presence  has:t1  has:t1gd  has:t2  has:flair

Reference: Neverova et al. 2016 (ModDrop), https://arxiv.org/abs/1501.00102
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt32

# Told apart from the random numbers of augmentation and pretexts, which use the same seeds.
_PURPOSE = 0x3D0B

Images = Float[Array, "b h w c"]
Present = Bool[Array, "b m"]


def hidden(images: Images, present: Present) -> Images:
    """The images, with 0 in every channel of a modality that is missing.

    Args:
      images: [B, H, W, m * slices], slice by slice, the m modalities of each in one order.
      present: bool[B, m], in the same order.
    """
    slices = images.shape[-1] // present.shape[-1]
    of_channels = jnp.tile(present, (1, slices))
    return jnp.where(of_channels[:, None, None, :], images, jnp.zeros((), images.dtype))


def encoded(images: Images, present: Present) -> Images:
    """The input of a network that takes missing modalities: hidden images, then presence.

    Args:
      images, present: as in `hidden`.

    Returns:
      [B, H, W, m * slices + m].
    """
    shape = (*images.shape[:3], present.shape[-1])
    channels = jnp.broadcast_to(present[:, None, None, :], shape)
    return jnp.concatenate([hidden(images, present), channels.astype(images.dtype)], axis=-1)


def decoded(x: Images, modalities: int) -> tuple[Images, Present]:
    """(images, present) of `encoded`: the inverse.

    Args:
      x: [B, H, W, m * slices + m]; padding and flips leave the channels of presence as they are.
      modalities: m.
    """
    return x[..., :-modalities], x[:, 0, 0, -modalities:] > 0


def dropped(seeds: UInt32[Array, " b"], present: Present, probability: float) -> Present:
    """Modality dropout: which modalities an example keeps, of those that its patient has.

    Of n modalities all are kept with probability 1 - p, and each of the 2^n - 2 others of their
    subsets that are not empty with probability p / (2^n - 2). A patient with one keeps it.

    Args:
      seeds: uint32[B], one for each example; the draw depends on nothing else.
      present: bool[B, m], the modalities that the patients have, at least one each.
      probability: p, from 0 to 1.

    Returns:
      bool[B, m].
    """

    # The generator is named: the default of the user may depend on the batch under `vmap`.
    def uniform(seed: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), _PURPOSE)
        return jax.random.uniform(key, (2,))

    drops, which = jax.vmap(uniform)(jnp.asarray(seeds)).T
    # Subset number k of 1 to 2^n - 2: bit r of k says whether modality number r of n is kept.
    subsets = jnp.left_shift(1, present.sum(axis=1)) - 2
    number = 1 + jnp.minimum(jnp.floor(which * subsets).astype(subsets.dtype), subsets - 1)
    rank = jnp.cumsum(present, axis=1) - 1
    kept = present & (jnp.right_shift(number[:, None], rank) % 2 == 1)
    return jnp.where(((drops < probability) & (subsets > 0))[:, None], kept, present)
