"""Augmentation of patches on the device: geometry, intensity, gamma, noise, and appearance.

The changes to an example depend on its seed alone, not on batch or device. Of the operations that
are on by default none interpolates; labels never are.
"""

from dataclasses import dataclass, fields
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Integer, Key, UInt32

from brats_jax.data.augment_appearance import (
    SHADING_TERMS,
    blurred,
    brightened,
    coarsened,
    curved,
    shaded,
    thick,
)
from brats_jax.data.augment_lesions import PARTS, contrasted
from brats_jax.data.augment_space import NUMBERS, drawn_affine, moved, symmetry_of, turned
from brats_jax.errors import BratsError

# Positions of the random numbers of one example: those of the flips and the turn (`symmetry_of`),
# and for each intensity operation its decision and an amount for each channel. Unused numbers keep
# their positions, so that switching one operation off does not change the others. All are one draw,
# because every draw adds a second of compilation.
_SCALE, _SHIFT, _GAMMA, _NOISE = range(4)

# Those of the operations that were added later are a second draw, so that the first one keeps its
# numbers: of the geometry, and for the example and for each channel.
_BLURS, _COARSE, _ZOOM = range(3)
_OF_EXAMPLE = 3
_BLUR, _SIGMA, _LOW, _BRIGHTNESS, _FACTOR, _CONTRASTS, _CONTRAST = range(7)
_OF_CHANNEL = 7
_LATER_KEY = 2  # 1 is that of the noise
_CURVE_KEY = 3  # of a third draw: for each channel whether it is curved, and by which power
_BIAS_KEY = 4  # of a fourth: for each channel whether it is shaded, and the coefficients
_LESION_KEY = 5  # of a fifth: whether it happens, and the factor of each part and channel
_THICK_KEY = 6  # of a sixth: whether it happens; by channel whether, along which side, how, where
_PER_MODALITY = 0.5  # probability of blur and resolution of a modality, if they happen

# Added after the first version, off by default.
LATER = (
    "rotation", "scaling", "blur", "low_resolution", "modality_intensity", "modality_curve",
    "bias_field", "lesion_contrast", "thick_slices",
)  # fmt: skip


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
      rotation: turn by an angle from `rotation_range` in degrees, with `spatial_probability`.
      scaling: magnify by a factor from `scaling_range`, with `spatial_probability`. Both are one
        bilinear interpolation about the centre of the patch, labels by the nearest pixel; outside
        of the patch is the slice's background, and label 0.
      blur: with `blur_probability` per example and 0.5 per modality, a Gaussian blur of a standard
        deviation from `blur_range` in pixels.
      low_resolution: with `low_resolution_probability` per example and 0.5 per modality, as if
        imaged with pixels larger by 1 / z, z from `low_resolution_range`.
      modality_intensity: for each modality by itself with `intensity_probability` each, brightness
        (a factor from `brightness_range`) and contrast (from `contrast_range`).
      modality_curve: for each modality by itself with `curve_probability`, a power from
        `curve_range`, uniform in its logarithm, of the patch scaled to 0..1; mean and standard
        deviation of the patch stay. A wider range than gamma's: how bright a lesion is beside
        the brain differs more between scanners than between scans of one.
      bias_field: for each modality by itself with `bias_probability`, a smooth shading as of an
        uneven coil: intensities times exp of a polynomial of third order in row and column, with
        coefficients from `bias_range`; air is unchanged. TorchIO's `RandomBiasField`
        (https://doi.org/10.1016/j.cmpb.2021.106236) has twice the coefficients.
      lesion_contrast: with `lesion_probability` per example, for each part of the tumour and each
        modality by itself, the distance of the part's mean from that of the brain times a factor:
        from `lesion_range` for ED and ET, from `cavity_range` for NCR/NET, with its cysts.
        Needs labels.
      thick_slices: with `thick_probability` per example and 0.5 per modality, as if imaged in
        slices that the patch cuts across, of a thickness from `thick_range` in pixels.

    The ranges and probabilities of the five from rotation on are nnU-Net's, too (Isensee et al.
    2018, https://arxiv.org/abs/1904.08128), with its angles of volumes: in 2D it turns by any
    angle, which quarter turns and 30 degrees reach together but for a gap. All nine come before
    the others: geometry, contrast of the lesion, bias field, appearance, slices, curve.

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
    rotation: bool = False
    scaling: bool = False
    blur: bool = False
    low_resolution: bool = False
    modality_intensity: bool = False
    modality_curve: bool = False
    bias_field: bool = False
    lesion_contrast: bool = False
    thick_slices: bool = False
    rotation_range: tuple[float, float] = (-30.0, 30.0)
    scaling_range: tuple[float, float] = (0.7, 1.4)
    spatial_probability: float = 0.2
    blur_range: tuple[float, float] = (0.5, 1.0)
    blur_probability: float = 0.2
    low_resolution_range: tuple[float, float] = (0.5, 1.0)
    low_resolution_probability: float = 0.25
    brightness_range: tuple[float, float] = (0.75, 1.25)
    contrast_range: tuple[float, float] = (0.75, 1.25)
    curve_range: tuple[float, float] = (0.4, 2.5)
    curve_probability: float = 0.5
    bias_range: tuple[float, float] = (-0.25, 0.25)
    bias_probability: float = 0.3
    lesion_range: tuple[float, float] = (0.3, 1.3)
    cavity_range: tuple[float, float] = (-0.5, 2.0)
    lesion_probability: float = 0.5
    thick_range: tuple[float, float] = (2.0, 7.0)
    thick_probability: float = 0.25

    @property
    def interpolates(self) -> bool:
        """Whether patches are interpolated."""
        return self.rotation or self.scaling

    @property
    def needs_background(self) -> bool:
        """Whether the background of the slices must be given: what is outside, and where air is."""
        return self.interpolates or self.bias_field or self.lesion_contrast

    @property
    def changes_appearance(self) -> bool:
        """Whether any operation of `augment_appearance` is on."""
        return self.blur or self.low_resolution or self.modality_intensity

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name.endswith("_range")):
            values = tuple(float(v) for v in getattr(self, name))
            if len(values) != 2 or not -np.inf < values[0] <= values[1] < np.inf:
                raise BratsError(f"augmentation {name} {values} must be (low, high)")
            object.__setattr__(self, name, values)  # lists would not hash as static arguments
        if self.gamma_range[0] <= 0 or self.scale_range[0] <= 0 or self.noise_range[0] < 0:
            raise BratsError(
                "augmentation gamma_range and scale_range must be positive and noise_range not "
                f"negative, got {self.gamma_range}, {self.scale_range}, {self.noise_range}"
            )
        positive = ("scaling", "blur", "brightness", "contrast", "curve")
        for name in (f"{one}_range" for one in positive):
            if getattr(self, name)[0] <= 0:
                raise BratsError(f"augmentation {name} must be positive, got {getattr(self, name)}")
        low, high = self.low_resolution_range
        if not 0 < low <= high <= 1:
            raise BratsError(f"augmentation low_resolution_range {low, high} must be in 0..1")
        if self.thick_range[0] < 1:
            raise BratsError(
                f"augmentation thick_range {self.thick_range} must be at least 1 pixel"
            )
        for name in (field.name for field in fields(self) if field.name.endswith("_probability")):
            if not 0 <= getattr(self, name) <= 1:
                raise BratsError(f"augmentation {name} {getattr(self, name)} must be in 0..1")


NONE = Augmentation(
    flip=False,
    quarter_turn=False,
    intensity_scale=False,
    intensity_shift=False,
    gamma=False,
    noise=False,
)


@partial(jax.jit, static_argnames=("config", "slices"))
def augment(
    images: Float[Array | np.ndarray, "b h w c"],
    targets: Float[Array | np.ndarray, "b h w t"] | None,
    labels: Integer[Array | np.ndarray, "b h w"] | None,
    seeds: UInt32[Array | np.ndarray, " b"],
    config: Augmentation,
    background: Float[Array | np.ndarray, "b c"] | None = None,
    target_background: Float[Array | np.ndarray, "b t"] | None = None,
    slices: int = 1,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w t"] | None, Integer[Array, "b h w"] | None]:
    """Augments each example by its seed.

    Args:
      images: float[B, H, W, C], z-scored input channels.
      targets: float[B, H, W, T], images to predict, or None; spatial operations only.
      labels: int[B, H, W] or None. The spatial operations move them; `lesion_contrast` takes the
        parts of the lesion from them.
      seeds: uint32[B], one for each example.
      config: the operations; static: each distinct one is compiled once.
      background, target_background: of the slices; needed if the configuration says so
        (`needs_background`), that of targets only if it interpolates.
      slices: whose modalities the channels are, slice by slice, the example's own first; static. A
        modality changes alike in all of them; only the noise differs.

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
    channels = images.shape[3] // slices
    decisions = jax.vmap(lambda key: jax.random.uniform(key, (3 + 4 * (1 + channels),)))(keys)
    later = jnp.zeros((0, 0))
    if config.interpolates or config.changes_appearance:
        count = NUMBERS + _OF_EXAMPLE + _OF_CHANNEL * channels
        later = _uniform(keys, _LATER_KEY, (count,))
    if config.interpolates:
        if background is None or (targets is not None and target_background is None):
            raise BratsError("rotation and scaling of patches need the background of their slices")
        affine = drawn_affine(
            later[:, :NUMBERS],
            config.rotation_range if config.rotation else None,
            config.scaling_range if config.scaling else None,
            config.spatial_probability,
        )
        symmetry = symmetry_of(decisions[:, :3], config.flip, config.quarter_turn)
        images, targets, labels = moved(
            images, targets, labels, symmetry, affine, background, target_background
        )
    elif config.flip or config.quarter_turn:
        symmetry = symmetry_of(decisions[:, :3], config.flip, config.quarter_turn)
        images = turned(images, symmetry)
        targets = None if targets is None else turned(targets, symmetry)
        labels = None if labels is None else turned(labels, symmetry)
    if config.lesion_contrast:
        if labels is None or background is None:
            raise BratsError("lesion_contrast needs labels, and the background of the slices")
        drawn = _uniform(keys, _LESION_KEY, (1 + len(PARTS) * channels,))
        ranges = (config.cavity_range, config.lesion_range, config.lesion_range)
        lowest, highest = (jnp.array([bounds[k] for bounds in ranges])[:, None] for k in (0, 1))
        factors = lowest + (highest - lowest) * drawn[:, 1:].reshape(-1, len(PARTS), channels)
        happens = drawn[:, :1, None] < config.lesion_probability
        factors = _made_once(jnp.where(happens, factors, 1.0))
        nearer = contrasted(images.astype(jnp.float32), labels, factors, jnp.asarray(background))
        images = nearer.astype(images.dtype)
    if config.bias_field:
        if background is None:
            raise BratsError("a bias field of patches needs the background of their slices")
        drawn = _uniform(keys, _BIAS_KEY, (1 + SHADING_TERMS, channels))
        low, high = config.bias_range
        happens = drawn[:, :1] < config.bias_probability
        coefficients = jnp.where(happens, low + (high - low) * drawn[:, 1:], 0.0)
        coefficients = jnp.tile(_made_once(coefficients), (1, 1, slices))
        shading = shaded(images.astype(jnp.float32), coefficients, jnp.asarray(background))
        images = shading.astype(images.dtype)
    if config.changes_appearance:
        of_example, of_channel = jnp.split(later[:, NUMBERS:], [_OF_EXAMPLE], axis=1)
        of_channel = of_channel.reshape(-1, _OF_CHANNEL, channels)
        changed = _appearance(images.astype(jnp.float32), of_example, of_channel, config, slices)
        images = changed.astype(images.dtype)
    if config.thick_slices:
        drawn = _uniform(keys, _THICK_KEY, (1 + 4 * channels,))
        chosen, side, amount, phase = jnp.moveaxis(drawn[:, 1:].reshape(-1, 4, channels), 1, 0)
        low, high = config.thick_range
        happens = (drawn[:, :1] < config.thick_probability) & (chosen < _PER_MODALITY)
        given = jnp.where(happens, low + (high - low) * amount, 1.0), phase, side
        thickness, phase, side = (jnp.tile(one, (1, slices)) for one in given)
        strips = thick(images.astype(jnp.float32), thickness, phase, side < 0.5)
        images = strips.astype(images.dtype)
    if config.modality_curve:
        drawn = _uniform(keys, _CURVE_KEY, (2, channels))
        low, high = np.log(config.curve_range)
        power = jnp.exp(low + (high - low) * drawn[:, 1])
        power = _made_once(jnp.where(drawn[:, 0] < config.curve_probability, power, 1.0)[:, None])
        columns = _as_columns(images, slices).astype(jnp.float32)
        images = curved(columns, power[:, 0]).astype(images.dtype).reshape(images.shape)
    if config.intensity_scale or config.intensity_shift or config.gamma or config.noise:
        amounts = decisions[:, 3:].reshape(-1, 4, 1 + channels)
        columns = _as_columns(images, slices).astype(jnp.float32)
        if slices > 1:
            amounts = _made_once(amounts)
        changed = _intensity(columns, amounts, keys, config, slices).astype(images.dtype)
        images = changed.reshape(images.shape)
    return images, targets, labels


def _example_key(seed: UInt32[Array, ""]) -> Key[Array, ""]:
    # Named, because the user may have set the default to "rbg", with which the numbers of an
    # example depend on its batch under vmap.
    return jax.random.key(seed, impl="threefry2x32")


def _uniform(keys: Key[Array, " b"], purpose: int, shape: tuple[int, ...]) -> Float[Array, "b ..."]:
    """Numbers from 0 to 1 of each example for one purpose, one of the `_*_KEY`."""

    def of_example(key: Key[Array, ""]) -> Float[Array, "..."]:
        return jax.random.uniform(jax.random.fold_in(key, purpose), shape)

    return jax.vmap(of_example)(keys)


def _made_once(values: Float[Array, "b k d"]) -> Float[Array, "b k d"]:
    """The same values, as a product with the unit matrix, into which XLA fuses nothing.

    XLA:CPU would compute them anew for every pixel of large images, for ten times the time of the
    intensity operations.
    """
    flat = values.reshape(len(values), -1)
    unit = jnp.eye(flat.shape[1], dtype=flat.dtype)
    return jnp.dot(flat, unit, precision=lax.Precision.HIGHEST).reshape(values.shape)


def _as_columns(images: Float[Array, "b h w c"], slices: int) -> Float[Array, "b h v m"]:
    """Slices as further columns, one channel for a modality: its range is that of all slices."""
    if slices == 1:
        return images
    batch, height, width, channels = images.shape
    return images.reshape(batch, height, width * slices, channels // slices)


def _appearance(
    images: Float[Array, "b h w c"],
    of_example: Float[Array, "b 3"],
    of_channel: Float[Array, "b 7 m"],
    config: Augmentation,
    slices: int,
) -> Float[Array, "b h w c"]:
    """Blur, low resolution, brightness and contrast, in this order."""

    def drawn(numbers: Array, bounds: tuple[float, float]) -> Array:
        return bounds[0] + (bounds[1] - bounds[0]) * numbers

    def chosen(of: int, channel: int, probability: float) -> Bool[Array, "b m"]:
        return (of_example[:, of, None] < probability) & (of_channel[:, channel] < _PER_MODALITY)

    def of_slices(values: Array) -> Array:
        return values if slices == 1 else jnp.tile(values, (1, slices))

    if config.blur:
        blurs = chosen(_BLURS, _BLUR, config.blur_probability)
        sigma = jnp.where(blurs, drawn(of_channel[:, _SIGMA], config.blur_range), 0.0)
        images = blurred(images, of_slices(sigma), config.blur_range[1])
    if config.low_resolution:
        coarse = chosen(_COARSE, _LOW, config.low_resolution_probability)
        zoom = drawn(of_example[:, _ZOOM], config.low_resolution_range)
        images = coarsened(images, zoom, of_slices(coarse))
    if config.modality_intensity:
        amounts = [
            jnp.where(
                of_channel[:, decision] < config.intensity_probability,
                drawn(of_channel[:, place], bounds),
                1.0,
            )
            for decision, place, bounds in (
                (_BRIGHTNESS, _FACTOR, config.brightness_range),
                (_CONTRASTS, _CONTRAST, config.contrast_range),
            )
        ]
        images = brightened(_as_columns(images, slices), *amounts).reshape(images.shape)
    return images


def _intensity(
    images: Float[Array, "b h w c"],
    decisions: Float[Array, "b 4 d"],
    keys: Key[Array, " b"],
    config: Augmentation,
    slices: int,
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
        deviation = amount(_NOISE, config.noise_range, 0.0)
        if slices == 1:
            return images + deviation * noise.reshape(images.shape)
        # As a product: fused with the operations above, XLA:CPU takes four times as long for all.
        channels = images.shape[3]
        scale = deviation[:, 0] * jnp.eye(channels, dtype=images.dtype)
        noise = noise.reshape(len(images), -1, channels)
        scaled = jnp.matmul(noise, scale, precision=lax.Precision.HIGHEST)
        images = images + scaled.reshape(images.shape)
    return images
