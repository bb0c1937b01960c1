"""Augmentation of patches on the device: flips, quarter turns, intensity, gamma, noise.

Every example is altered by its own seed and nothing else, so neither the batch it is in nor
the device it is on changes it. Nothing is interpolated: labels stay labels.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Integer, Key, UInt32

from brats_jax.errors import BratsError

# Numbers in 0..1 that decide one example: whether it is flipped and how far it is turned, and
# for each intensity operation whether it happens and how much, channel by channel. Each has
# its place whether or not it is used, so that switching one operation off leaves the others
# as they were; and they are one draw, because every draw costs a second of compilation.
_FLIP_H, _FLIP_W, _TURN = range(3)
_SCALE, _SHIFT, _GAMMA, _NOISE = range(4)


@dataclass(frozen=True)
class Augmentation:
    """What is done to a patch, and how much. Each switch works alone.

    Spatial operations apply to image, target and labels alike, and draw uniformly; together
    the two reach all eight symmetries of the square. Intensity operations apply to the image
    only: each happens to an example with `intensity_probability`, with amounts drawn
    uniformly for each of its channels.

    The ranges are nnU-Net's (mirroring, brightness x 0.75-1.25 with p 0.15, gamma 0.7-1.5
    with p 0.3, noise 0-0.1 with p 0.1; `nnUNetTrainer.get_training_transforms`,
    https://github.com/MIC-DKFZ/nnUNet) and, for the shift, which nnU-Net does not have,
    that of MONAI's BraTS tutorials (`RandShiftIntensityd(offsets=0.1)`,
    https://github.com/Project-MONAI/tutorials). One probability stands for nnU-Net's three.

    Attributes:
      flip: mirror along H and along W, each with p 0.5.
      quarter_turn: turn by 0, 90, 180 or 270 degrees; needs square patches.
      intensity_scale: multiply by a factor from `scale_range`.
      intensity_shift: add a number from `shift_range`, in units of the z-scored image.
      gamma: raise to a power from `gamma_range`. A power is defined on 0..1, and z-scored
        values are not there: the patch goes to 0..1 by its own minimum and maximum, and back
        after. So its darkest and brightest pixels stay, and what is between them moves.
      noise: add Gaussian noise of a standard deviation from `noise_range`, in the same units
        as the shift.
      intensity_probability: of each of the four intensity operations, per example.

    Raises:
      BratsError: a range is not (low, high), reaches where it has no meaning, or the
        probability is not in 0..1.
    """

    flip: bool = True
    quarter_turn: bool = True
    intensity_scale: bool = True
    intensity_shift: bool = True
    gamma: bool = True
    noise: bool = True
    scale_range: tuple[float, float] = (0.75, 1.25)
    shift_range: tuple[float, float] = (-0.1, 0.1)
    gamma_range: tuple[float, float] = (0.7, 1.5)
    noise_range: tuple[float, float] = (0.0, 0.1)
    intensity_probability: float = 0.15

    def __post_init__(self) -> None:
        for name in ("scale_range", "shift_range", "gamma_range", "noise_range"):
            values = tuple(float(v) for v in getattr(self, name))
            if len(values) != 2 or not -np.inf < values[0] <= values[1] < np.inf:
                raise BratsError(f"augmentation {name} {values} must be (low, high)")
            object.__setattr__(self, name, values)  # lists would not hash as static arguments
        if self.gamma_range[0] <= 0 or self.scale_range[0] <= 0 or self.noise_range[0] < 0:
            raise BratsError(
                "augmentation gamma_range and scale_range must be positive and noise_range not "
                f"negative, got {self.gamma_range}, {self.scale_range}, {self.noise_range}"
            )
        if not 0 <= self.intensity_probability <= 1:
            raise BratsError(
                f"augmentation intensity_probability {self.intensity_probability} must be in 0..1"
            )


NONE = Augmentation(
    flip=False,
    quarter_turn=False,
    intensity_scale=False,
    intensity_shift=False,
    gamma=False,
    noise=False,
)


@partial(jax.jit, static_argnames="config")
def augment(
    images: Float[Array | np.ndarray, "b h w c"],
    targets: Float[Array | np.ndarray, "b h w t"] | None,
    labels: Integer[Array | np.ndarray, "b h w"] | None,
    seeds: UInt32[Array | np.ndarray, " b"],
    config: Augmentation,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w t"] | None, Integer[Array, "b h w"] | None]:
    """Alters each example as its seed says.

    Args:
      images: float[B, H, W, C], z-scored input channels.
      targets: float[B, H, W, T], images to predict, or None; turned with the input, their
        intensities left alone.
      labels: int[B, H, W] or None; turned with the input.
      seeds: uint32[B]; an example is a pure function of its seed.
      config: what to do; static, so each distinct one compiles once.

    Returns:
      (images, targets, labels) of the same shapes and types; with everything switched off,
      the same values.

    Raises:
      BratsError: quarter turns are on and the patches are not square, or the arrays do not
        belong together.
    """
    shape = images.shape[:3]
    if seeds.shape != shape[:1] or any(
        other is not None and other.shape[:3] != shape for other in (targets, labels)
    ):
        raise BratsError(
            f"images {images.shape}, targets {getattr(targets, 'shape', None)}, labels "
            f"{getattr(labels, 'shape', None)} and seeds {seeds.shape} must agree in [B, H, W]"
        )
    if config.quarter_turn and shape[1] != shape[2]:
        raise BratsError(
            f"quarter turns need square patches, got {shape[1]} x {shape[2]}; make the patches "
            "square or switch quarter_turn off"
        )
    images = jnp.asarray(images)
    targets = None if targets is None else jnp.asarray(targets)
    labels = None if labels is None else jnp.asarray(labels)
    keys = jax.vmap(_example_key)(jnp.asarray(seeds))
    channels = images.shape[3]
    decisions = jax.vmap(lambda key: jax.random.uniform(key, (3 + 4 * (1 + channels),)))(keys)
    if config.flip or config.quarter_turn:
        symmetry = _symmetry(decisions[:, :3], config)
        images = _turned(images, symmetry)
        targets = None if targets is None else _turned(targets, symmetry)
        labels = None if labels is None else _turned(labels, symmetry)
    if config.intensity_scale or config.intensity_shift or config.gamma or config.noise:
        amounts = decisions[:, 3:].reshape(-1, 4, 1 + channels)
        images = _intensity(images.astype(jnp.float32), amounts, keys, config).astype(images.dtype)
    return images, targets, labels


def _example_key(seed: UInt32[Array, ""]) -> Key[Array, ""]:
    # The generator is named: under the faster "rbg" that a user may have made the default,
    # the numbers of one example depend on the batch that it is mapped with.
    return jax.random.key(seed, impl="threefry2x32")


def _symmetry(
    decisions: Float[Array, "b 3"], config: Augmentation
) -> tuple[Bool[Array, " b"], Bool[Array, " b"], Bool[Array, " b"]]:
    """Per example (transpose, flip along H, flip along W), to be applied in this order."""
    flip_h = (decisions[:, _FLIP_H] < 0.5) & config.flip
    flip_w = (decisions[:, _FLIP_W] < 0.5) & config.flip
    # Quarter turns anticlockwise, as numpy.rot90: 1 is a transpose and a flip along H, 2 both
    # flips, 3 a transpose and a flip along W.
    turns = jnp.floor(4 * decisions[:, _TURN]).astype(jnp.int32) * config.quarter_turn
    return turns % 2 == 1, flip_h ^ ((turns == 1) | (turns == 2)), flip_w ^ (turns >= 2)


def _turned(x: Array, symmetry: tuple[Array, Array, Array]) -> Array:
    """Turns each example of [B, H, W, ...] by fetching every pixel from where it came.

    A gather, not a choice between flipped copies: XLA:CPU would recompute the choice in each
    operation that follows, at five times the cost of all the intensity changes.
    """
    transpose, flip_h, flip_w = (s[:, None, None] for s in symmetry)
    batch, height, width = x.shape[:3]
    row, column = jnp.arange(height)[:, None], jnp.arange(width)
    row = jnp.where(flip_h, height - 1 - row, row)
    column = jnp.where(flip_w, width - 1 - column, column)
    source = jnp.where(transpose, column * width + row, row * width + column)
    pixels = x.reshape(batch, height * width, -1)
    fetch = jax.vmap(lambda p, at: p.at[at].get(mode="promise_in_bounds"))
    return fetch(pixels, source.reshape(batch, -1)).reshape(x.shape)


def _intensity(
    images: Float[Array, "b h w c"],
    decisions: Float[Array, "b 4 d"],
    keys: Key[Array, " b"],
    config: Augmentation,
) -> Float[Array, "b h w c"]:
    """Gamma, scale, shift and noise, in this order."""

    def amount(
        operation: int, bounds: tuple[float, float], neutral: float
    ) -> Float[Array, "b 1 1 c"]:
        """An amount per example and channel: `neutral` where the operation does not happen."""
        happens = decisions[:, operation, :1] < config.intensity_probability
        drawn = bounds[0] + (bounds[1] - bounds[0]) * decisions[:, operation, 1:]
        return jnp.where(happens, drawn, neutral)[:, None, None, :]

    if config.gamma:
        power = amount(_GAMMA, config.gamma_range, 1.0)
        low = jnp.min(images, axis=(1, 2), keepdims=True)
        extent = jnp.max(images, axis=(1, 2), keepdims=True) - low
        unit = (images - low) / jnp.where(extent > 0, extent, 1.0)
        curved = jnp.exp(power * jnp.log(unit)) * extent + low
        images = jnp.where(power == 1, images, curved)  # to the bit where nothing happens
    if config.intensity_scale:
        images = images * amount(_SCALE, config.scale_range, 1.0)
    if config.intensity_shift:
        images = images + amount(_SHIFT, config.shift_range, 0.0)
    if config.noise:
        # Drawn flat: with the image's own shape the generator takes six times as long to compile.
        size = images[0].size
        noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), (size,)))(keys)
        images = images + amount(_NOISE, config.noise_range, 0.0) * noise.reshape(images.shape)
    return images
