"""Overlap of label maps: counts per slice and class, Dice, and the conventions for absent classes.

Counts are the sufficient statistics: they are taken once per slice, and every
convention is a different average of them.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, Integer

from brats_jax.errors import BratsError

# Dice of a slice in which a class is in neither mask. Where one mask is empty and the
# other is not, the formula itself gives 0 and every convention agrees.
CONVENTIONS: dict[str, float] = {
    # The average over all slices with an absent class counted 0. Only this one yields the
    # magnitude of the paper's tables (0.18 / 0.32 / 0.20): it cannot exceed the share of
    # slices that hold the class, about 0.27 for NCR and 0.42 for ED.
    "paper": 0.0,
    # Slices without the class in either mask are left out: nan and nanmean, as in nnU-Net,
    # https://github.com/MIC-DKFZ/nnUNet/blob/master/nnunetv2/evaluation/evaluate_predictions.py
    "present_only": math.nan,
    # Agreement on absence is a full score: the BraTS challenges' rule (2020 and 2023),
    # there for whole volumes, https://github.com/rachitsaluja/BraTS-2023-Metrics
    "both_empty_1": 1.0,
}

# The same in words, for captions and table heads.
CONVENTION_NOTES: dict[str, str] = {
    "paper": "all slices; a class absent from both masks counts 0",
    "present_only": "slices where the class is in either mask",
    "both_empty_1": "all slices; a class absent from both masks counts 1",
}


class MeanDice(NamedTuple):
    """Dice per class averaged over slices, float64[K], and the slices averaged, int64[K]."""

    dice: np.ndarray
    slices: np.ndarray


def empty_value(convention: str) -> float:
    """Returns the Dice of a class absent from both masks under a named convention.

    Raises:
      BratsError: the name is not in `CONVENTIONS`.
    """
    try:
        return CONVENTIONS[convention]
    except KeyError:
        raise BratsError(
            f"unknown Dice convention '{convention}'; valid names: {', '.join(CONVENTIONS)}"
        ) from None


def _counts_by_histogram(
    prediction: Integer[Array | np.ndarray, "b h w"],
    target: Integer[Array | np.ndarray, "b h w"],
    num_classes: int,
) -> Int[Array, "b k 3"]:
    bins = num_classes + 1  # the last one holds every value that is no class

    def bounded(labels: Integer[Array | np.ndarray, "b h w"]) -> Int[Array, "b n"]:
        flat = jnp.asarray(labels, jnp.int32).reshape(labels.shape[0], -1)
        return jnp.where((flat < 0) | (flat > num_classes), num_classes, flat)

    joint = jax.vmap(partial(jnp.bincount, length=bins * bins))(
        bounded(prediction) * bins + bounded(target)
    ).reshape(-1, bins, bins)
    tp = jnp.diagonal(joint, axis1=1, axis2=2)
    counts = jnp.stack([tp, joint.sum(axis=2) - tp, joint.sum(axis=1) - tp], axis=-1)
    return counts[:, :num_classes].astype(jnp.int32)


def _counts_by_sums(
    prediction: Integer[Array | np.ndarray, "b h w"],
    target: Integer[Array | np.ndarray, "b h w"],
    num_classes: int,
) -> Int[Array, "b k 3"]:
    per_class = []
    for k in range(num_classes):
        p, t = prediction == k, target == k
        tp, in_p, in_t = (jnp.sum(m, axis=(1, 2), dtype=jnp.int32) for m in (p & t, p, t))
        per_class.append(jnp.stack([tp, in_p - tp, in_t - tp], axis=-1))
    return jnp.stack(per_class, axis=1)


@partial(jax.jit, static_argnames="num_classes")
def confusion_counts(
    prediction: Integer[Array | np.ndarray, "b h w"],
    target: Integer[Array | np.ndarray, "b h w"],
    num_classes: int,
) -> Int[Array, "b k 3"]:
    """True positive, false positive and false negative pixels per slice and class.

    Args:
      prediction, target: int[B, H, W] label maps. A value outside 0..num_classes-1 belongs
        to no class: it is a miss of the other map's class, and counts for none of its own.
      num_classes: number of classes K, background included.

    Returns:
      int32[B, K, 3] of (tp, fp, fn).

    Raises:
      BratsError: the shapes differ.
    """
    if prediction.shape != target.shape:
        raise BratsError(
            f"prediction {prediction.shape} and target {target.shape} differ in shape; "
            "give label maps of the same slices"
        )

    # The same counts two ways: on XLA:CPU a histogram is eight times faster than the masked
    # sums, on accelerators the sums fuse into one pass and need no atomics.
    return jax.lax.platform_dependent(
        prediction,
        target,
        cpu=partial(_counts_by_histogram, num_classes=num_classes),
        default=partial(_counts_by_sums, num_classes=num_classes),
    )


@jax.jit
def dice(
    counts: Integer[Array | np.ndarray, "*n 3"], empty: float | Float[Array, ""] = math.nan
) -> Float[Array, "*n"]:
    """Dice coefficient from confusion counts.

        Dice = 2 TP / (2 TP + FP + FN)

    Args:
      counts: int[..., 3] of (tp, fp, fn), as `confusion_counts` gives them or summed over
        slices.
      empty: the value where both masks are empty (see `CONVENTIONS`).

    Returns:
      float32[...] in 0..1, and `empty` where TP + FP + FN = 0.

    Reference: Dice 1945, https://doi.org/10.2307/1932409
    """
    tp, fp, fn = (jnp.asarray(counts[..., i], jnp.float32) for i in range(3))
    denominator = 2 * tp + fp + fn
    return jnp.where(denominator > 0, 2 * tp / jnp.maximum(denominator, 1), empty)


def dice_under(
    counts: Integer[Array | np.ndarray, "*n 3"], convention: str
) -> Float[np.ndarray, "*n"]:
    """Dice under a named convention, on the host in float64.

    Args:
      counts: int[..., 3] of (tp, fp, fn) per slice, or per volume.
      convention: a name in `CONVENTIONS`.

    Returns:
      float64[...]; NaN where the convention leaves a slice out.

    Raises:
      BratsError: the convention is unknown.
    """
    empty = empty_value(convention)
    tp, fp, fn = np.moveaxis(np.asarray(counts).astype(np.float64), -1, 0)
    denominator = 2 * tp + fp + fn
    return np.where(denominator > 0, 2 * tp / np.maximum(denominator, 1), empty)


def mean_dice(counts: Integer[Array | np.ndarray, "n k 3"], convention: str) -> MeanDice:
    """Dice per class averaged over slices under a named convention.

    The mean runs on the host in float64: the counts of a whole test set are small, and a
    float32 running sum over tens of thousands of slices is not exact to the printed digits.

    Args:
      counts: int[N, K, 3] of (tp, fp, fn) per slice and class.
      convention: a name in `CONVENTIONS`.

    Returns:
      `MeanDice`: dice float64[K], NaN for a class that no slice counts for; slices int64[K],
      the number of slices in each mean.

    Raises:
      BratsError: the convention is unknown.
    """
    per_slice = dice_under(counts, convention)
    counted = ~np.isnan(per_slice)
    slices = counted.sum(axis=0)
    total = np.where(counted, per_slice, 0).sum(axis=0)
    mean = np.divide(total, slices, out=np.full(total.shape, np.nan), where=slices > 0)
    return MeanDice(mean, slices)
