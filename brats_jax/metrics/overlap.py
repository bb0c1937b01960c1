"""Overlap of label maps: counts, Dice, sensitivity, and the conventions for absent classes.

Counts are taken once per slice, and every convention is an average of them. The counts of a
patient are the sums over its slices.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, Integer

from brats_jax.errors import BratsError
from brats_jax.metrics.array_namespace import array_namespace
from brats_jax.runtime import forms

# Dice of a slice in which a class is in neither mask. Where exactly one mask is empty, the formula
# gives 0 under every convention.
CONVENTIONS: dict[str, float] = {
    # The average over all slices, where an absent class counts 0. Only this convention gives the
    # magnitude of the paper's tables (0.18 / 0.32 / 0.20): it cannot exceed the share of slices
    # that have the class, about 0.27 for NCR and 0.42 for ED.
    "paper": 0.0,
    # Slices without the class in either mask are left out, as in nnU-Net,
    # https://github.com/MIC-DKFZ/nnUNet/blob/master/nnunetv2/evaluation/evaluate_predictions.py
    "present_only": math.nan,
    # Agreement on absence is a full score, as in the BraTS challenges (2020 and 2023), where it
    # is for whole volumes, https://github.com/rachitsaluja/BraTS-2023-Metrics
    "both_empty_1": 1.0,
}

# The challenges' names for a rule above, which are also in `surface.DISTANCE_CONVENTIONS`. The
# challenges score each patient's volume once, so their counts are a patient's.
PATIENT_CONVENTIONS: dict[str, str] = {
    "brats2020": "both_empty_1",
    "brats2023": "both_empty_1",
}

# The conventions over slices in words, for captions and table heads.
CONVENTION_NOTES: dict[str, str] = {
    "paper": "all slices; a class absent from both masks counts 0",
    "present_only": "slices where the class is in either mask",
    "both_empty_1": "all slices; a class absent from both masks counts 1",
}


LabelMaps = Integer[Array | np.ndarray, "b *space"]
LabelSets = tuple[tuple[int, ...], ...]


class MeanDice(NamedTuple):
    """Dice per class averaged over slices, float64[K], and the slices averaged, int64[K]."""

    dice: np.ndarray
    slices: np.ndarray


def empty_value(convention: str) -> float:
    """Returns the Dice of a class absent from both masks under a named convention.

    Raises:
      BratsError: the name is neither in `CONVENTIONS` nor in `PATIENT_CONVENTIONS`.
    """
    try:
        return CONVENTIONS[PATIENT_CONVENTIONS.get(convention, convention)]
    except KeyError:
        raise BratsError(
            f"unknown Dice convention '{convention}'; valid names: "
            f"{', '.join([*CONVENTIONS, *PATIENT_CONVENTIONS])}"
        ) from None


def counts_by_histogram(
    prediction: LabelMaps, target: LabelMaps, regions: LabelSets
) -> Int[Array, "b r 3"]:
    """`region_counts` from the joint histogram of both label maps: eight times faster on a CPU."""
    num_labels = max(map(max, regions)) + 1
    bins = num_labels + 1  # the last bin counts every value that is in no region
    member = np.array([[k in region for k in range(bins)] for region in regions], np.int32)

    def bounded(labels: LabelMaps) -> Int[Array, "b n"]:
        flat = jnp.asarray(labels, jnp.int32).reshape(labels.shape[0], -1)
        return jnp.where((flat < 0) | (flat > num_labels), num_labels, flat)

    joint = jax.vmap(partial(jnp.bincount, length=bins * bins))(
        bounded(prediction) * bins + bounded(target)
    ).reshape(-1, bins, bins)
    tp = jnp.einsum("ri,bij,rj->br", member, joint, member)
    in_p, in_t = joint.sum(axis=2) @ member.T, joint.sum(axis=1) @ member.T
    return jnp.stack([tp, in_p - tp, in_t - tp], axis=-1).astype(jnp.int32)


def counts_by_sums(
    prediction: LabelMaps, target: LabelMaps, regions: LabelSets
) -> Int[Array, "b r 3"]:
    """The plain form of `region_counts`: sums of masks, one pass without atomics on a GPU."""
    per_region = []
    for region in regions:
        p, t = (
            jnp.any(jnp.stack([labels == k for k in region]), axis=0)
            for labels in (prediction, target)
        )
        space = tuple(range(1, p.ndim))
        tp, in_p, in_t = (jnp.sum(m, axis=space, dtype=jnp.int32) for m in (p & t, p, t))
        per_region.append(jnp.stack([tp, in_p - tp, in_t - tp], axis=-1))
    return jnp.stack(per_region, axis=1)


def confusion_counts(
    prediction: LabelMaps, target: LabelMaps, num_classes: int
) -> Int[Array, "b k 3"]:
    """True positive, false positive and false negative pixels per slice and class.

    Args:
      prediction, target: int[B, H, W] or int[B, H, W, D] label maps. A value outside
        0..num_classes-1 belongs to no class: it counts as a miss of the other map's class alone.
      num_classes: number of classes K, background included.

    Returns:
      int32[B, K, 3] of (tp, fp, fn).

    Raises:
      BratsError: the shapes differ.
    """
    return region_counts(prediction, target, [(k,) for k in range(num_classes)])


def region_counts(
    prediction: LabelMaps, target: LabelMaps, regions: Sequence[Sequence[int]]
) -> Int[Array, "b r 3"]:
    """True positive, false positive and false negative pixels of unions of labels.

    Args:
      prediction, target: int[B, H, W] or int[B, H, W, D] label maps.
      regions: R sets of labels in 0..255, which may overlap, such as ((1, 2, 3), (1, 3), (3,)).

    Returns:
      int32[B, R, 3] of (tp, fp, fn).

    Raises:
      BratsError: the shapes differ, or a region is empty or has a label outside 0..255.
    """
    if prediction.shape != target.shape:
        raise BratsError(
            f"prediction {prediction.shape} and target {target.shape} differ in shape; "
            "give label maps of the same slices"
        )
    sets = tuple(tuple(sorted({int(k) for k in region})) for region in regions)
    if not sets or not all(sets) or min(map(min, sets)) < 0 or max(map(max, sets)) > 255:
        raise BratsError(f"regions {regions} must be sets of at least one label in 0..255 each")
    return _counts(prediction, target, sets, plain=forms.plain("counts"))


@partial(jax.jit, static_argnames=("regions", "plain"))
def _counts(
    prediction: LabelMaps, target: LabelMaps, regions: LabelSets, plain: bool
) -> Int[Array, "b r 3"]:
    by_sums = partial(counts_by_sums, regions=regions)
    if plain:
        return by_sums(prediction, target)
    by_histogram = partial(counts_by_histogram, regions=regions)
    return jax.lax.platform_dependent(prediction, target, cpu=by_histogram, default=by_sums)


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


def sensitivity(
    counts: Integer[Array | np.ndarray, "*n 3"],
    empty: float | Float[Array | np.ndarray, "..."] = math.nan,
) -> Float[Array, "*n"]:
    """Share of the target that was found (recall, true positive rate).

        Sensitivity = TP / (TP + FN)

    Args:
      counts: int[..., 3] of (tp, fp, fn).
      empty: the value where the target is empty. The BraTS 2023 script writes 1 where both
        masks are empty and 0 where the target alone is.

    Returns:
      float32[...] in 0..1, and `empty` where TP + FN = 0.
    """
    xp = array_namespace(counts)
    tp, _, fn = (xp.asarray(counts[..., i], xp.float32) for i in range(3))
    return xp.where(tp + fn > 0, tp / xp.maximum(tp + fn, 1), empty)


def specificity(
    counts: Integer[Array | np.ndarray, "*n 3"],
    total: int | Integer[Array | np.ndarray, "..."],
    empty: float | Float[Array, ""] = math.nan,
) -> Float[Array, "*n"]:
    """Share of the pixels outside the target that were predicted outside (true negative rate).

        Specificity = TN / (TN + FP),  TN = total - TP - FP - FN

    It grows with the background around the head: compare it for images of one size only.

    Args:
      counts: int[..., 3] of (tp, fp, fn).
      total: number of pixels of each image that was counted.
      empty: the value where the target fills the image.

    Returns:
      float32[...] in 0..1, and `empty` where TN + FP = 0.
    """
    xp = array_namespace(counts)
    tp, fp, fn = (xp.asarray(counts[..., i], xp.int32) for i in range(3))
    # As 1 - FP / (TN + FP), which keeps more digits near 1.
    negatives = xp.asarray(total, xp.int32) - tp - fn
    share = xp.asarray(1 - fp / xp.maximum(negatives, 1), xp.float32)
    return xp.where(negatives > 0, share, empty)


def mean_dice(counts: Integer[Array | np.ndarray, "n k 3"], convention: str) -> MeanDice:
    """Dice per class averaged over slices under a named convention.

    The mean is taken on the host in float64: a float32 sum over tens of thousands of slices is not
    exact to the printed digits.

    Args:
      counts: int[N, K, 3] of (tp, fp, fn) per slice and class.
      convention: a name in `CONVENTIONS`; with the counts of whole patients, [N] of them, one
        in `PATIENT_CONVENTIONS` too.

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
