"""Checks each case, and all together, for labels or modalities that are exchanged.

Signs that all right cases have, in standard deviations of the brain outside the tumour of a slice:

    T1Gd     ET is brighter than NCR/NET, by more than in any other modality, and no darker than ED
    FLAIR    ED is brighter than the brain, and by more than in T1
    T2       CSF is bright: of T1, T2 and FLAIR, T2 is the most right-skewed outside the tumour
    labels   ED borders the brain outside the tumour, NCR/NET lies within

A case contradicts if it fails a sign by more than a margin. Measured on 20 whole cases of
BraTS 2018 and 2021: no right case fails. Of 14 cases of 2018 with exchanged classes or modalities
one exchange of T2 and FLAIR was missed; of 6 cases of 2021, of which two have little or no ET, up
to two. Of excerpts of 16 slices up to 5 of 14 were missed. Classes of a few pixels give no verdict.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from brats_jax.data import crops
from brats_jax.data.crops import Crops
from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES, MODALITIES, NUM_CLASSES
from brats_jax.runtime.document import Part

_NCR, _ED, _ET = (CLASSES.index(name) for name in ("NCR/NET", "ED", "ET"))
_T1, _T1GD, _T2, _FLAIR = (MODALITIES.index(name) for name in ("t1", "t1gd", "t2", "flair"))

_MOST_SLICES = 24  # of a case; the sums of more change little
_LEAST_PIXELS = 60  # of a class
_LEAST_BRAIN = 2000  # pixels outside the tumour
_LEAST_BORDER = 40  # pairs of neighbours
_LEAST_FOR_CSF = 20_000  # pixels outside the tumour, so that CSF is among them

# Margins. The smallest distances from 0 in right cases are 0.9 (ET over NCR/NET), 0.5 (over other
# modalities), 0.9 (FLAIR of ED), 0.5 (over T1), 0.3 (skewness), 0.1 (share of the border).
_ET_BELOW_NCR = -0.3
_OTHER_ABOVE_T1GD = 0.6
_ET_BELOW_ED = -0.8
_ED_IN_FLAIR = 0.2
_T1_ABOVE_FLAIR = 0.3
_SKEW_OTHER_ABOVE_T2 = 0.5
_NCR_OUTSIDE_ED = 0.05

LABELS = "NCR/NET and ED look exchanged"
ET_AND_NCR = "ET and NCR/NET look exchanged"
ET_AND_ED = "ET and ED look exchanged"


@dataclasses.dataclass(frozen=True)
class TissueSums(Part):
    """Sums over up to 24 slices of a case with tumour.

    Attributes:
      pixels: of the brain outside the tumour, NCR/NET, ED and ET.
      sums: of z in each modality, for NCR/NET, ED and ET in turn (12 numbers); z is the value in
        standard deviations from the mean of the brain outside the tumour of the same slice.
      cubes: of z³ in each modality, over the brain outside the tumour.
      border: pairs of neighbouring pixels of NCR/NET and another class; the same of ED.
      outer: those of them whose other class is background.
    """

    pixels: tuple[int, ...]
    sums: tuple[float, ...]
    cubes: tuple[float, ...]
    border: tuple[int, ...]
    outer: tuple[int, ...]


def tissue_sums(images: Crops, labels: np.ndarray) -> TissueSums:
    """Sums one case.

    Args:
      images: normalised, modalities in canonical order.
      labels: uint8[pixels] in the same boxes.
    """
    pixels = np.zeros(NUM_CLASSES, np.int64)
    sums = np.zeros((NUM_CLASSES - 1, len(MODALITIES)))
    cubes = np.zeros(len(MODALITIES))
    pairs = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    of_slice, boxes = crops.split(labels, images.boxes), images.boxed()
    with_tumour = [k for k, label in enumerate(of_slice) if label.any()]
    picks = np.unique(np.linspace(0, len(with_tumour) - 1, _MOST_SLICES).astype(int))
    for k in (with_tumour[i] for i in picks if with_tumour):
        label = of_slice[k]
        brain = (boxes[k] != images.background[k]).any(axis=-1) & (label == 0)
        if brain.sum() < 2:
            continue
        outside = boxes[k][brain].astype(np.float32)
        mean, deviation = outside.mean(axis=0), outside.std(axis=0) + np.float32(1e-6)
        cubes += (((outside - mean) / deviation) ** 3).sum(axis=0, dtype=np.float64)
        pixels[0] += len(outside)
        for value in range(1, NUM_CLASSES):
            own = (boxes[k][label == value].astype(np.float32) - mean) / deviation
            pixels[value] += len(own)
            sums[value - 1] += own.sum(axis=0, dtype=np.float64)
        for one, other in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            both = one.astype(np.int64) * NUM_CLASSES + other
            found = np.bincount(both.ravel(), minlength=pairs.size).reshape(pairs.shape)
            pairs += found + found.T
    np.fill_diagonal(pairs, 0)
    return TissueSums(
        pixels=tuple(pixels.tolist()),
        sums=tuple(sums.ravel().tolist()),
        cubes=tuple(cubes.tolist()),
        border=tuple(pairs[[_NCR, _ED]].sum(axis=1).tolist()),
        outer=tuple(pairs[[_NCR, _ED], 0].tolist()),
    )


def pooled(cases: Iterable[TissueSums]) -> TissueSums:
    """The sums of several cases together."""
    fields = [field.name for field in dataclasses.fields(TissueSums)]
    zero = TissueSums((0,) * NUM_CLASSES, (0.0,) * 12, (0.0,) * len(MODALITIES), (0, 0), (0, 0))
    rows = [zero, *cases]
    return TissueSums(
        **{
            name: tuple(np.sum([getattr(row, name) for row in rows], axis=0).tolist())
            for name in fields
        }
    )


def is_judged(sums: TissueSums) -> bool:
    """Whether the case has enough pixels for any verdict."""
    return sums.pixels[0] >= _LEAST_BRAIN and max(sums.pixels[1:]) >= _LEAST_PIXELS


def contradictions(sums: TissueSums) -> list[str]:
    """The signs that a case (or several, pooled) fails, one phrase each; empty if right."""
    if not is_judged(sums):
        return []
    counts = np.array(sums.pixels[1:])
    enough = dict(zip((_NCR, _ED, _ET), counts >= _LEAST_PIXELS, strict=True))
    z = np.reshape(sums.sums, (NUM_CLASSES - 1, -1)) / np.maximum(counts, 1)[:, None]
    mean = {value: z[value - 1] for value in (_NCR, _ED, _ET)}
    found = []
    if enough[_ET] and enough[_NCR]:
        contrast = mean[_ET] - mean[_NCR]
        best = int(contrast.argmax())
        if contrast[best] - max(contrast[_T1GD], 0) > _OTHER_ABOVE_T1GD:
            found.append(
                f"ET over NCR/NET is larger in {DISPLAY_NAMES[MODALITIES[best]]} "
                f"({contrast[best]:+.1f} SD) than in T1Gd ({contrast[_T1GD]:+.1f} SD)"
            )
        if contrast[_T1GD] < _ET_BELOW_NCR:
            found.append(f"{ET_AND_NCR} (T1Gd is {-contrast[_T1GD]:.1f} SD darker in ET)")
    if enough[_ET] and enough[_ED]:
        contrast_ed = mean[_ET][_T1GD] - mean[_ED][_T1GD]
        if contrast_ed < _ET_BELOW_ED:
            found.append(f"{ET_AND_ED} (T1Gd is {-contrast_ed:.1f} SD darker in ET)")
    if enough[_NCR] and enough[_ED] and min(sums.border) >= _LEAST_BORDER:
        ncr, ed = (outer / border for outer, border in zip(sums.outer, sums.border, strict=True))
        if ncr - ed > _NCR_OUTSIDE_ED:
            found.append(
                f"{LABELS} ({ncr:.0%} of the border of NCR/NET is with the brain outside the "
                f"tumour, {ed:.0%} of that of ED)"
            )
    if enough[_ED]:
        flair, t1 = mean[_ED][_FLAIR], mean[_ED][_T1]
        if t1 - flair > _T1_ABOVE_FLAIR:
            found.append(f"ED is brighter in T1 ({t1:+.1f} SD) than in FLAIR ({flair:+.1f} SD)")
        elif flair < _ED_IN_FLAIR:
            found.append(f"ED is not brighter than the brain in FLAIR ({flair:+.1f} SD)")
    skew = np.array(sums.cubes) / sums.pixels[0]
    for other in (_T1, _FLAIR) if sums.pixels[0] >= _LEAST_FOR_CSF else ():
        if skew[other] - skew[_T2] > _SKEW_OTHER_ABOVE_T2:
            found.append(
                f"CSF is brighter in {DISPLAY_NAMES[MODALITIES[other]]} than in T2 (skewness "
                f"{skew[other]:+.1f} and {skew[_T2]:+.1f})"
            )
    return found
