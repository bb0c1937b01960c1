"""Augmentation of patches on the device: flips, quarter turns, intensity, gamma, noise.

The changes to an example depend on its seed alone, not on batch or device. No operation
interpolates, so that labels stay exact.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Integer, Key, UInt32

from brats_jax.errors import BratsError

# Positions of the random numbers of one example: flips, turn, and for each intensity operation
# its decision and an amount for each channel. Unused numbers keep their positions, so that
# switching one operation off does not change the others. All are one draw, because every draw
# adds a second of compilation.
_FLIP_H, _FLIP_W, _TURN = range(3)
_SCALE, _SHIFT, _GAMMA, _NOISE = range(4)


@dataclass(frozen=True)
class Augmentation:
    """The operations and their ranges; each switch is independent.

    Spatial operations apply to image, target and labels alike, and are drawn uniformly; flips and
    turns together reach all eight symmetries of the square. Intensity operations apply to the
    image only, each with `intensity_probability`, with amounts drawn uniformly for each channel.

    The ranges are nnU-Net's (mirroring, brightness x 0.75-1.25 with p 0.15, gamma 0.7-1.5
    with p 0.3, noise 0-0.1 with p 0.1; `nnUNetTrainer.get_training_transforms`,
    https://github.com/MIC-DKFZ/nnUNet) and, for the shift, which nnU-Net does not have,
    that of MONAI's BraTS tutorials (`RandShiftIntensityd(offsets=0.1)`,
    https://github.com/Project-MONAI/tutorials). One probability replaces nnU-Net's three.

    Attributes:
      flip: mirror along H and along W, each with p 0.5.
      quarter_turn: turn by 0, 90, 180 or 270 degrees; needs square patches.
      intensity_scale: multiply by a factor from `scale_range`.
      intensity_shift: add a number from `shift_range`, in units of the z-scored image.
      gamma: raise to a power from `gamma_range`, with the patch scaled to 0..1 by its minimum and
        maximum before, and back after. The minimum and the maximum do not change.
      noise: add Gaussian noise of a standard deviation from `noise_range`, in the same units
        as the shift.
      intensity_probability: of each of the four intensity operations, per example.

    Raises:
      BratsError: a range is not (low, high) or has meaningless values, or the probability is not
        in 0..1.
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
    """Augments each example by its seed.

    Args:
      images: float[B, H, W, C], z-scored input channels.
      targets: float[B, H, W, T], images to predict, or None; spatial operations only.
      labels: int[B, H, W] or None; spatial operations only.
      seeds: uint32[B], one for each example.
      config: the operations; static: each distinct one is compiled once.

    Returns:
      (images, targets, labels) of the same shapes and types; unchanged if all is switched off.

    Raises:
      BratsError: quarter turns of patches that are not square, or arrays of different [B, H, W].
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
    # Named, because the user may have set the default to "rbg", with which the numbers of an
    # example depend on its batch under vmap.
    return jax.random.key(seed, impl="threefry2x32")


def _symmetry(
    decisions: Float[Array, "b 3"], config: Augmentation
) -> tuple[Bool[Array, " b"], Bool[Array, " b"], Bool[Array, " b"]]:
    """(transpose, flip along H, flip along W) of each example, applied in this order."""
    flip_h = (decisions[:, _FLIP_H] < 0.5) & config.flip
    flip_w = (decisions[:, _FLIP_W] < 0.5) & config.flip
    # Quarter turns anticlockwise, as numpy.rot90: 1 is a transpose and a flip along H, 2 both
    # flips, 3 a transpose and a flip along W.
    turns = jnp.floor(4 * decisions[:, _TURN]).astype(jnp.int32) * config.quarter_turn
    return turns % 2 == 1, flip_h ^ ((turns == 1) | (turns == 2)), flip_w ^ (turns >= 2)


def _turned(x: Array, symmetry: tuple[Array, Array, Array]) -> Array:
    """Transposes and flips each example of [B, H, W, ...] by a gather of pixels.

    Not a selection between flipped copies: XLA:CPU would recompute the selection in each following
    operation, which takes five times as long as all intensity operations.
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
        """The amount for each example and channel; `neutral` for examples without the operation."""
        happens = decisions[:, operation, :1] < config.intensity_probability
        drawn = bounds[0] + (bounds[1] - bounds[0]) * decisions[:, operation, 1:]
        return jnp.where(happens, drawn, neutral)[:, None, None, :]

    if config.gamma:
        power = amount(_GAMMA, config.gamma_range, 1.0)
        low = jnp.min(images, axis=(1, 2), keepdims=True)
        extent = jnp.max(images, axis=(1, 2), keepdims=True) - low
        unit = (images - low) / jnp.where(extent > 0, extent, 1.0)
        curved = jnp.exp(power * jnp.log(unit)) * extent + low
        images = jnp.where(power == 1, images, curved)  # unchanged examples keep their bits
    if config.intensity_scale:
        images = images * amount(_SCALE, config.scale_range, 1.0)
    if config.intensity_shift:
        images = images + amount(_SHIFT, config.shift_range, 0.0)
    if config.noise:
        # Drawn flat: with the shape of the image, compilation takes six times as long.
        size = images[0].size
        noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), (size,)))(keys)
        images = images + amount(_NOISE, config.noise_range, 0.0) * noise.reshape(images.shape)
    return images
