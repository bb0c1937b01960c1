"""Lesion-wise Dice and HD95 as the BraTS challenges define them since 2023.

The rules of the challenges' script, https://github.com/rachitsaluja/BraTS-2023-Metrics (eval.py),
for one region (WT, TC or ET) of one patient, as host code on every platform:

1. Lesions of the target: its mask is dilated `dilation` times by the 18-connected structure;
   target voxels in one 26-connected component of the dilated mask are one lesion.
2. Lesions of the prediction: its 26-connected components, not dilated.
3. A lesion of the target is compared with the union of all predicted components that touch its
   dilation, each of them whole: a component that touches two lesions counts in full for both.
4. Dice is of the two masks of voxels. HD95 is DeepMind's (weighted by area, the larger
   direction; see `surface_by_area`). A lesion that nothing touches has Dice 0 and HD95 374 mm.
5. Lesions of the target of 50 mm^3 or less are left out of scores and counts. Predictions that
   touch them are no false positives.
6. Predicted components that touch no dilation, of any size, are false positives, each with
   Dice 0 and HD95 374 mm.
7. Score = sum over the lesions kept / (lesions kept + false positives). Where there are
   neither, Dice is 1 and HD95 0.
8. The dilation counts voxels, whatever their size; volumes are in mm^3.

Dilation 3 and 50 mm^3 are the values for adult glioma (BraTS-GLI), where all voxels are 1 mm.

Unlike in the script, the voxel size is an argument (the script reads the prediction's file), and
so are the smallest volume and the penalty, with the challenge's values as defaults.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax import Array
from jaxtyping import Bool, Integer
from scipy import ndimage

from brats_jax.errors import BratsError
from brats_jax.metrics import surface_by_area, surface_host

DILATION = 3
SMALLEST_MM3 = 50.0
PENALTY_MM = 374.0

_TOUCHING_EDGES = ndimage.generate_binary_structure(3, 2)  # 18-connected
_TOUCHING_CORNERS = ndimage.generate_binary_structure(3, 3)  # 26-connected


class Lesion(NamedTuple):
    """One lesion of the target.

    Attributes:
      volume_mm3: its volume.
      dice, hd95_mm: against the predicted components that touch it; 0 and the penalty where none
        does.
      components: number of predicted components that touch it.
      counted: whether it is large enough to count.
    """

    volume_mm3: float
    dice: float
    hd95_mm: float
    components: int
    counted: bool


class LesionScores(NamedTuple):
    """Lesion-wise scores of one region of one patient.

    Attributes:
      dice: in 0..1.
      hd95_mm: in mm.
      tp, fn: counted lesions of the target, found and missed.
      fp: predicted components that touch no lesion.
      lesions: every lesion of the target, including those too small to count.
    """

    dice: float
    hd95_mm: float
    tp: int
    fn: int
    fp: int
    lesions: tuple[Lesion, ...]


def lesion_scores(
    prediction: Bool[Array | np.ndarray, "h w d"],
    target: Bool[Array | np.ndarray, "h w d"],
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    dilation: int = DILATION,
    smallest_mm3: float = SMALLEST_MM3,
    penalty_mm: float = PENALTY_MM,
) -> LesionScores:
    """Lesion-wise Dice and HD95 of one region of one patient (see the top of this file).

        score = sum over lesions kept / (lesions kept + false positives)

    Args:
      prediction, target: bool[H, W, D] masks of the region.
      spacing_mm: voxel size along each axis.
      dilation: number of times that the target is dilated to join close parts.
      smallest_mm3: lesions of this volume or less do not count.
      penalty_mm: HD95 of a missed lesion and of a false positive.

    Returns:
      `LesionScores`.

    Raises:
      BratsError: the masks are not volumes of one shape, there are not three positive
        spacings, or `dilation` is negative.

    Reference: https://github.com/rachitsaluja/BraTS-2023-Metrics
    """
    predicted, truth = np.asarray(prediction, bool), np.asarray(target, bool)
    spacing = tuple(float(s) for s in spacing_mm)
    _check(predicted, truth, spacing, dilation)
    box = tuple(
        slice(max(0, s.start - dilation), s.stop + dilation)
        for s in surface_host.bounding_box(predicted | truth)
    )
    predicted, truth = predicted[box], truth[box]
    components, n_components = ndimage.label(predicted, _TOUCHING_CORNERS)
    # Each lesion's dilation is one component of the dilated mask, and no other lesion is in it.
    groups, n_lesions = ndimage.label(_dilated(truth, dilation), _TOUCHING_CORNERS)
    touching = np.unique(np.stack([groups[predicted], components[predicted]]), axis=1)
    touching = touching[:, touching[0] > 0]
    lesions = []
    for group in range(1, n_lesions + 1):
        ids = touching[1, touching[0] == group]
        lesion, found = truth & (groups == group), np.isin(components, ids)
        volume = float(np.count_nonzero(lesion) * np.prod(spacing))
        dice, hd95_mm = 0.0, float(penalty_mm)
        if len(ids):
            both = np.count_nonzero(lesion & found)
            dice = 2 * both / (np.count_nonzero(lesion) + np.count_nonzero(found))
            hd95_mm = surface_by_area.hd95(surface_by_area.surface_elements(found, lesion, spacing))
        lesions.append(Lesion(volume, dice, hd95_mm, len(ids), volume > smallest_mm3))
    kept = [lesion for lesion in lesions if lesion.counted]
    tp = sum(lesion.components > 0 for lesion in kept)
    fp = n_components - len(np.unique(touching[1]))
    scored = len(kept) + fp
    return LesionScores(
        dice=sum(lesion.dice for lesion in kept) / scored if scored else 1.0,
        hd95_mm=(sum(lesion.hd95_mm for lesion in kept) + fp * penalty_mm) / scored
        if scored
        else 0.0,
        tp=tp,
        fn=len(kept) - tp,
        fp=fp,
        lesions=tuple(lesions),
    )


def region_lesion_scores(
    prediction: Integer[Array | np.ndarray, "h w d"],
    target: Integer[Array | np.ndarray, "h w d"],
    regions: Sequence[Sequence[int]],
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[LesionScores, ...]:
    """`lesion_scores` of unions of labels of two label maps, in the order of `regions`."""
    predicted, truth = np.asarray(prediction), np.asarray(target)
    return tuple(
        lesion_scores(np.isin(predicted, tuple(r)), np.isin(truth, tuple(r)), spacing_mm)
        for r in regions
    )


def _dilated(mask: np.ndarray, times: int) -> np.ndarray:
    # In SciPy 0 iterations mean "until nothing changes".
    return ndimage.binary_dilation(mask, _TOUCHING_EDGES, times) if times else mask


def _check(
    prediction: np.ndarray, target: np.ndarray, spacing_mm: tuple[float, ...], dilation: int
) -> None:
    if prediction.shape != target.shape or prediction.ndim != 3:
        raise BratsError(
            f"prediction {prediction.shape} and target {target.shape} must be volumes "
            "[H, W, D] of one shape; put slices back into their volume first"
        )
    if len(spacing_mm) != 3 or not min(spacing_mm) > 0:
        raise BratsError(f"spacing_mm {spacing_mm} must be 3 positive lengths in mm")
    if dilation < 0:
        raise BratsError(f"dilation {dilation} must be 0 or more")
