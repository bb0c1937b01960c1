"""Losses of the pretraining: pure functions of a predicted and a target image, and their names.

Images are [B, H, W, C] in any floating type and computed in float32 or wider. Every loss is a
scalar, a mean over the whole batch, so a batch that is divided among devices gives the same number
as on one device.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from brats_jax.losses.means import Scalar, Weights, at_least_float32, weighted_mean
from brats_jax.metrics import image

Images = Float[Array, "b h w c"]


def mse(prediction: Images, target: Images, weight: Weights = None) -> Scalar:
    """Mean squared error over all pixels, or over those that count, in float32.

        sum w (p - t)^2 / sum w

    Args:
      prediction, target: images of one shape.
      weight: 0 or 1, of a shape that broadcasts to theirs; None: 1 everywhere. Where all are 0 the
        loss is 0.

    Raises:
      ValueError: shapes differ; broadcasting would hide that.
    """
    return weighted_mean(jnp.square(_difference(prediction, target)), weight)


def l1(prediction: Images, target: Images, weight: Weights = None) -> Scalar:
    """Mean absolute error over all pixels, or over those that count; see `mse`."""
    return weighted_mean(jnp.abs(_difference(prediction, target)), weight)


def l1_ssim(prediction: Images, target: Images, weight: Weights = None) -> Scalar:
    """Structural dissimilarity and absolute error, over all pixels or over those that count.

        0.84 (1 - SSIM) + 0.16 mean |p - t|

    SSIM has windows of 7 x 7 and the intensity range of each target (maximum - minimum). A window
    counts where its centre does, and reaches beyond it. The optimum of `mse` has less contrast
    than the truth wherever the input does not decide the target; that of SSIM has the truth's.

    Args:
      prediction, target: images of one shape, each side at least 7.
      weight: see `mse`.

    Raises:
      ValueError: shapes differ.

    Reference: Zhao et al. 2017, https://arxiv.org/abs/1511.08861, whose SSIM has several scales.
    """
    error = jnp.abs(_difference(prediction, target))
    every = jnp.ones(()) if weight is None else weight
    windows, centres = ssim_of_windows(prediction, target, every)
    return 0.84 * weighted_mean(1 - windows, centres) + 0.16 * weighted_mean(error, weight)


def ssim_of_windows(
    prediction: Images, target: Images, weight: jax.Array
) -> tuple[Float[Array, "n h w"], Float[Array, "n h w"]]:
    """SSIM of each window and the weight of its centre, [B * C, H - 6, W - 6]; see `l1_ssim`."""
    x, y = _channels_as_images(prediction), _channels_as_images(target)
    ranges = jnp.max(y, axis=(1, 2)) - jnp.min(y, axis=(1, 2))
    windows = image.ssim_map(x, y, jnp.where(ranges > 0, ranges, 1.0))
    weight = _channels_as_images(jnp.broadcast_to(weight, target.shape))
    return windows, image.window_centres(weight)


def _channels_as_images(images: Images) -> Float[Array, "n h w"]:
    moved = jnp.moveaxis(at_least_float32(images), -1, 1)
    return moved.reshape(-1, *moved.shape[2:])


def _difference(prediction: Images, target: Images) -> Images:
    if prediction.shape != target.shape:
        raise ValueError(f"loss of shapes {prediction.shape} and {target.shape}")
    return at_least_float32(prediction) - at_least_float32(target)


# By name. Those named 'brain_' have weight 0 outside the brain.
RECONSTRUCTION_LOSSES: dict[str, Callable[[Images, Images, Weights], Scalar]] = {
    "mse": mse,
    "l1": l1,
    "brain_mse": mse,
    "brain_ssim": l1_ssim,
}

BRAIN_LOSSES = frozenset(name for name in RECONSTRUCTION_LOSSES if name.startswith("brain_"))
