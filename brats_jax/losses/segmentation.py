"""Losses of the segmentation: pure functions of logits and labels, and one table of names.

Logits are [B, H, W, K] in any floating type and computed in float32 or wider; labels are integers
[B, H, W] from 0 to K - 1. With `regions`, K sets of labels that may overlap, channel k is the
score before the sigmoid of set k, and every term is averaged over the regions. Every loss is a
scalar, and every mean and sum runs over the whole batch, so a batch that is divided among devices
gives the same number as on one device.

Losses are optax's where it has them and a continued training keeps its bits.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from brats_jax.errors import BratsError
from brats_jax.losses.means import Scalar, at_least_float32, weighted_mean

Logits = Float[Array, "b h w k"]
Labels = Integer[Array, "b h w"]
Regions = Sequence[Sequence[int]] | None

SMOOTH = 1e-5  # MONAI's; the term of a class that is in neither truth nor prediction is then 0


def cross_entropy(
    logits: Logits, labels: Labels, *, regions: Regions = None, smoothing: float = 0.0
) -> Scalar:
    """Cross-entropy, averaged over pixels.

        mean over pixels of -log p_t

    with p_t the softmax probability of the true class. With regions, p_t is the sigmoid of the
    region's score for a pixel inside the region, and 1 minus it for a pixel outside (binary
    cross-entropy), and the mean runs over the regions as well.

    Args:
      logits: scores before softmax.
      labels: true classes.
      regions: see the module.
      smoothing: share s of the target that is spread evenly over the K classes,
        (1 - s) y + s / K; with regions over inside and outside, (1 - s) y + s / 2.

    Reference: Szegedy et al. 2016 (label smoothing), https://arxiv.org/abs/1512.00567
    """
    return _cross_entropy_of_pixels(logits, labels, regions, smoothing).mean()


def dice_loss(
    logits: Logits,
    labels: Labels,
    *,
    include_background: bool = False,
    pooled: bool = True,
    regions: Regions = None,
    present: bool = False,
) -> Scalar:
    """Soft Dice loss, averaged over classes or regions.

        1 - mean_c (2 sum p_c y_c + s) / (sum p_c + sum y_c + s),   s = 1e-5

    with p the softmax probabilities and y the one-hot labels. The default is nnU-Net's choice
    for 2D: foreground classes only, and sums over the whole batch. Few patches have all classes,
    and the term of a class that is absent from its sums is about 1 with almost no gradient;
    pooling makes that rare.

    `optax.losses.dice_loss` with smooth=s/2 has the same value, but its order of operations gives
    gradients other last bits, which would change continued trainings.

    Args:
      logits: scores before softmax.
      labels: true classes.
      include_background: average over class 0 too.
      pooled: sums over all pixels of the batch (True), or per example and then the mean over
        examples and classes (False). They equal MONAI's `DiceLoss(softmax=True,
        include_background=..., batch=pooled)`.
      regions: see the module; p is then the sigmoid, and there is no background. It equals MONAI's
        `DiceLoss(sigmoid=True, batch=pooled)`.
      present: average over the classes whose truth is in the sums alone; 0 where none is. The term
        of an absent class is (sum p_c) / (sum p_c + s): it falls from 1 to 0 only where sum p_c
        comes near s. A small batch often lacks a class. Its gradient then drives the probability
        of a class that is hard to find towards 0 in all pixels, from where it may not return.

    Reference: Milletari et al. 2016, https://arxiv.org/abs/1606.04797;
    Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z
    """
    if regions is None:
        probabilities = jax.nn.softmax(at_least_float32(logits))
        truth = jax.nn.one_hot(labels, logits.shape[-1], dtype=probabilities.dtype)
        if not include_background:
            probabilities, truth = probabilities[..., 1:], truth[..., 1:]
    else:
        probabilities = jax.nn.sigmoid(at_least_float32(logits))
        truth = _inside(labels, regions, probabilities.dtype)
    axes = (0, 1, 2) if pooled else (1, 2)
    overlap = (probabilities * truth).sum(axes)
    total = probabilities.sum(axes) + truth.sum(axes)
    terms = 1 - (2 * overlap + SMOOTH) / (total + SMOOTH)
    if present:
        return weighted_mean(terms, (truth.sum(axes) > 0).astype(terms.dtype))
    return terms.mean()


def focal(
    logits: Logits,
    labels: Labels,
    *,
    alpha: Sequence[float] | None = None,
    gamma: float = 2.0,
    regions: Regions = None,
    smoothing: float = 0.0,
) -> Scalar:
    """Focal loss: cross-entropy that down-weights well-classified pixels.

        mean over pixels of -alpha_t (1 - p_t)^gamma log p_t

    MONAI's `FocalLoss(use_softmax=True)` also averages over the K classes, which makes it K times
    smaller. With regions p_t is the sigmoid's, as in `cross_entropy`, and without alpha it equals
    `optax.losses.sigmoid_focal_loss`, whose alpha weighs inside against outside.

    Args:
      logits: scores before softmax.
      labels: true classes.
      alpha: one weight per class, or per region; all 1 where None.
      gamma: at least 0; 0 is the (weighted) cross-entropy.
      regions: see the module.
      smoothing: as in `cross_entropy`: the loss is the mean of those of all classes, each as if it
        were the true one, weighted by the smoothed target.

    Raises:
      BratsError: there are not as many weights as classes or regions.

    Reference: Lin et al. 2017, https://arxiv.org/abs/1708.02002
    """
    if alpha is not None and len(alpha) != logits.shape[-1]:
        each = "class, background first" if regions is None else "region"
        raise BratsError(
            f"focal loss: {len(alpha)} values of alpha for {logits.shape[-1]} "
            f"{'classes' if regions is None else 'regions'}; give one per {each}"
        )
    if smoothing:
        return _smoothed_focal(logits, labels, alpha, gamma, regions, smoothing)
    loss = _focal_of(-_cross_entropy_of_pixels(logits, labels, regions), gamma)
    if alpha is not None:
        weights = jnp.asarray(alpha, loss.dtype)
        loss *= weights[labels] if regions is None else weights
    return loss.mean()


def dice_ce(
    logits: Logits,
    labels: Labels,
    *,
    regions: Regions = None,
    smoothing: float = 0.0,
    present: bool = False,
) -> Scalar:
    """Half the Dice loss plus half the cross-entropy.

    Args:
      logits: scores before softmax.
      labels: true classes.
      regions: see the module.
      smoothing: of the cross-entropy's target; that of the Dice loss stays as it is.
      present: see `dice_loss`.
    """
    # In this order: the compiled program stays the same to the letter.
    half_dice = 0.5 * dice_loss(logits, labels, regions=regions, present=present)
    return half_dice + 0.5 * cross_entropy(logits, labels, regions=regions, smoothing=smoothing)


def dice_focal(
    logits: Logits,
    labels: Labels,
    *,
    alpha: Sequence[float] | None = None,
    gamma: float = 2.0,
    regions: Regions = None,
    smoothing: float = 0.0,
    present: bool = False,
) -> Scalar:
    """Dice loss plus focal loss, one to one.

    Args:
      logits: scores before softmax.
      labels: true classes.
      alpha, gamma: see `focal`.
      regions: see the module.
      smoothing: of the focal loss's target; that of the Dice loss stays as it is.
      present: see `dice_loss`.
    """
    dice = dice_loss(logits, labels, regions=regions, present=present)
    return dice + focal(
        logits, labels, alpha=alpha, gamma=gamma, regions=regions, smoothing=smoothing
    )


def deeply_supervised(
    loss: Callable[[Logits, Labels], Scalar],
    logits: Logits,
    auxiliary: Mapping[int, Logits],
    labels: Labels,
) -> Scalar:
    """A loss at several resolutions, as in nnU-Net: half the weight for each coarser one.

        sum_i 2^-i loss_i / sum_i 2^-i,   i = 0 for the logits of every pixel

    Args:
      loss: of logits and labels.
      logits: of every pixel.
      auxiliary: by stride s = 2, 4, ..., logits [B, >= ceil(H / s), >= ceil(W / s), K]; what lies
        beyond the labels is not counted. Their labels are those of the pixels i * s + s // 2
        (nearest neighbour).
      labels: true classes.

    Reference: Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z
    """
    total, weights = loss(logits, labels), 1.0
    for i, (stride, coarse) in enumerate(sorted(auxiliary.items()), start=1):
        nearest = labels[:, stride // 2 :: stride, stride // 2 :: stride]
        height, width = nearest.shape[1:]
        total += loss(coarse[:, :height, :width], nearest) / 2**i
        weights += 1 / 2**i
    return total / weights


SEGMENTATION_LOSSES: dict[str, Callable[..., Scalar]] = {
    "dice_ce": dice_ce,
    "dice_focal": dice_focal,
    "focal": focal,
}


def get_segmentation_loss(
    name: str,
    *,
    alpha: Sequence[float] | None = None,
    gamma: float = 2.0,
    regions: Regions = None,
    smoothing: float = 0.0,
    present: bool = False,
) -> Callable[[Logits, Labels], Scalar]:
    """Looks a loss up by name and fixes its parameters.

    Args:
      name: a key of `SEGMENTATION_LOSSES`.
      alpha: focal weight per class, background first, or per region; only for losses with a focal
        term.
      gamma: focal exponent; `dice_ce` ignores it.
      regions: sets of labels, where the channels are regions; None: they are classes.
      smoothing: of the targets of cross-entropy and focal loss; the Dice loss has none.
      present: of the Dice loss, see `dice_loss`; `focal` has none.

    Raises:
      BratsError: the name is unknown, or a parameter is invalid.
    """
    if name not in SEGMENTATION_LOSSES:
        raise BratsError(
            f"unknown segmentation loss '{name}'; valid names: {', '.join(SEGMENTATION_LOSSES)}"
        )
    if not (math.isfinite(gamma) and gamma >= 0):
        raise BratsError(f"focal gamma {gamma}: choose a number from 0 up, e.g. 2")
    if alpha is not None:
        alpha = tuple(float(a) for a in alpha)
        if not all(math.isfinite(a) and a >= 0 for a in alpha) or not any(alpha):
            raise BratsError(f"focal alpha {alpha}: choose one number from 0 up for each class")
    if name == "dice_ce":
        if alpha is not None:
            raise BratsError("loss 'dice_ce' has no focal term for alpha to weight; leave it out")
        return functools.partial(dice_ce, regions=regions, smoothing=smoothing, present=present)
    loss = functools.partial(SEGMENTATION_LOSSES[name], alpha=alpha, gamma=gamma)
    if name == "dice_focal":
        loss = functools.partial(loss, present=present)
    return functools.partial(loss, regions=regions, smoothing=smoothing)


def _cross_entropy_of_pixels(
    logits: Logits, labels: Labels, regions: Regions, smoothing: float = 0.0
) -> Float[Array, "b h w *k"]:
    """Cross-entropy of each pixel [B, H, W]; with regions, of each pixel and region."""
    import optax  # here, so that a prediction does not load it

    logits = at_least_float32(logits)
    truth = _targets(labels, logits, regions, smoothing)
    if regions is not None:
        return optax.sigmoid_binary_cross_entropy(logits, truth)
    return optax.softmax_cross_entropy(logits, truth)


def _targets(
    labels: Labels, logits: Logits, regions: Regions, smoothing: float
) -> Float[Array, "b h w k"]:
    """The share of each class in a pixel's target, or of the inside of each region."""
    if regions is not None:
        truth, choices = _inside(labels, regions, logits.dtype), 2
    else:
        # One-hot: the gradient of optax's loss of integer labels is a scatter, whose
        # deterministic form is slow on a GPU.
        truth = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        choices = logits.shape[-1]
    return (1 - smoothing) * truth + smoothing / choices if smoothing else truth


def _focal_of(log_p: Float[Array, "*n"], gamma: float) -> Float[Array, "*n"]:
    """-(1 - p)^gamma log p."""
    # expm1, because 1 - p cancels near p = 1. The floor keeps the gradient of a power below 1
    # finite where p rounds to 1.
    miss = jnp.maximum(-jnp.expm1(log_p), jnp.finfo(log_p.dtype).tiny)
    return -(miss ** (int(gamma) if float(gamma).is_integer() else gamma)) * log_p


def _smoothed_focal(
    logits: Logits,
    labels: Labels,
    alpha: Sequence[float] | None,
    gamma: float,
    regions: Regions,
    smoothing: float,
) -> Scalar:
    logits = at_least_float32(logits)
    shares = _targets(labels, logits, regions, smoothing)
    weights = jnp.ones((), logits.dtype) if alpha is None else jnp.asarray(alpha, logits.dtype)
    if regions is None:
        of_classes = weights * _focal_of(jax.nn.log_softmax(logits), gamma)
        return (shares * of_classes).sum(-1).mean()
    inside, outside = (_focal_of(jax.nn.log_sigmoid(x), gamma) for x in (logits, -logits))
    return (weights * (shares * inside + (1 - shares) * outside)).mean()


def _inside(
    labels: Labels, regions: Sequence[Sequence[int]], dtype: DTypeLike
) -> Float[Array, "b h w k"]:
    """1 where a pixel's label is in a region, else 0."""
    masks = [jnp.any(jnp.stack([labels == k for k in region]), axis=0) for region in regions]
    return jnp.stack(masks, axis=-1).astype(dtype)
