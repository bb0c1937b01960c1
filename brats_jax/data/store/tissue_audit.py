"""Checks each case, and all together, for labels or modalities that are exchanged.

Signs that all right cases have, in standard deviations (SD) of the brain outside the tumour of a
slice. Skewness is that of the difference of two modalities, unless said otherwise:

    ET       in T1Gd brighter than NCR/NET and no darker than ED and the brain; over both, brighter
             in T1Gd than in T1
    ED       in FLAIR brighter than the brain, T1 and T1Gd
    CSF      bright in T2 alone, so that T2 less another modality is right-skewed
    vessels  thin and bright in T1Gd, so that what is left of it after smoothing is more
             right-skewed than that of T1
    labels   ED borders the brain outside the tumour more than NCR/NET and ET do

A case contradicts if it fails a sign by more than a margin. The exchange that a contradiction looks
like is the one after which every sign is right. Figures: docs/reliability.md. Classes of a few
pixels give no verdict.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from brats_jax.data import crops
from brats_jax.data.crops import Crops
from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES, MODALITIES, NUM_CLASSES
from brats_jax.runtime.document import Part

_NCR, _ED, _ET = (CLASSES.index(name) for name in ("NCR/NET", "ED", "ET"))
_T1, _T1GD, _T2, _FLAIR = (MODALITIES.index(name) for name in ("t1", "t1gd", "t2", "flair"))
_PAIRS = tuple(itertools.combinations(range(len(MODALITIES)), 2))

_MOST_SLICES = 24  # of a case; the sums of more change little
_MOST_SD = 4.0  # brighter pixels count as that bright, so that a few do not decide
_SMOOTHED, _INNER = 5, 7  # pixels: width of the box, and of that which holds brain alone
_LEAST_PIXELS = 60  # of a class
_LEAST_BRAIN = 2000  # pixels outside the tumour
_LEAST_BORDER = 40  # pairs of neighbours
_LEAST_FOR_CSF = 20_000  # pixels outside the tumour, so that CSF and vessels are among them
_LEAST_WITHOUT_ED = 500  # pixels of ET
EXCHANGED = "look exchanged"
_ENHANCES = 1.0  # SD by which T1Gd of ET is above ED and brain where nothing is in doubt


@dataclasses.dataclass(frozen=True)
class TissueSums(Part):
    """Sums over up to 24 slices of a case with tumour.

    Attributes:
      pixels: of the brain outside the tumour, NCR/NET, ED and ET.
      sums: of z in each modality, for NCR/NET, ED and ET in turn (12 numbers); z is the value in
        standard deviations from the mean of the brain outside the tumour of the same slice.
      cubes: of z³ in each modality, over the brain outside the tumour.
      border: pairs of neighbouring pixels of a class and another class, for NCR/NET, ED and ET.
      outer: those of them whose other class is background.
      products: of z in two modalities, over the same brain; for each pair of modalities.
      differences: cubes of the first z less the second, for each pair of modalities.
      inner: pixels of this brain that have 3 pixels of it on every side.
      fine_squares, fine_cubes: over these, of z less its mean in a box of 5 x 5 pixels.

    The last five, and the border of ET, are missing in cases that version 0.1.0 has written.
    """

    pixels: tuple[int, ...]
    sums: tuple[float, ...]
    cubes: tuple[float, ...]
    border: tuple[int, ...]
    outer: tuple[int, ...]
    products: tuple[float, ...] = ()
    differences: tuple[float, ...] = ()
    inner: tuple[int, ...] = ()
    fine_squares: tuple[float, ...] = ()
    fine_cubes: tuple[float, ...] = ()


def tissue_sums(images: Crops, labels: np.ndarray) -> TissueSums:
    """Sums one case.

    Args:
      images: normalised, modalities in canonical order.
      labels: uint8[pixels] in the same boxes.
    """
    pixels = np.zeros(NUM_CLASSES, np.int64)
    sums = np.zeros((NUM_CLASSES - 1, len(MODALITIES)))
    cubes, fine_squares, fine_cubes = np.zeros((3, len(MODALITIES)))
    products, differences = np.zeros((2, len(_PAIRS)))
    inner = 0
    borders = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
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
        z = (outside - mean) / deviation
        cubes += (z**3).sum(axis=0, dtype=np.float64)
        z = z.clip(-_MOST_SD, _MOST_SD)
        for number, (one, other) in enumerate(_PAIRS):
            products[number] += z[:, one] @ z[:, other]
            difference = z[:, one] - z[:, other]
            differences[number] += (difference**2) @ difference
        pixels[0] += len(outside)
        for value in range(1, NUM_CLASSES):
            own = (boxes[k][label == value].astype(np.float32) - mean) / deviation
            pixels[value] += len(own)
            sums[value - 1] += own.sum(axis=0, dtype=np.float64)
        smooth = np.zeros((*brain.shape, len(MODALITIES)), np.float32)
        smooth[brain] = z
        fine = (smooth - _box_mean(smooth, _SMOOTHED))[_box_mean(brain, _INNER) > 1 - 1e-3]
        inner += len(fine)
        fine_squares += (fine**2).sum(axis=0, dtype=np.float64)
        fine_cubes += (fine**3).sum(axis=0, dtype=np.float64)
        for here, there in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            both = here.astype(np.int64) * NUM_CLASSES + there
            found = np.bincount(both.ravel(), minlength=borders.size).reshape(borders.shape)
            borders += found + found.T
    np.fill_diagonal(borders, 0)
    return TissueSums(
        pixels=tuple(pixels.tolist()),
        sums=tuple(sums.ravel().tolist()),
        cubes=tuple(cubes.tolist()),
        border=tuple(borders[1:].sum(axis=1).tolist()),
        outer=tuple(borders[1:, 0].tolist()),
        products=tuple(products.tolist()),
        differences=tuple(differences.tolist()),
        inner=(inner,),
        fine_squares=tuple(fine_squares.tolist()),
        fine_cubes=tuple(fine_cubes.tolist()),
    )


def _box_mean(image: np.ndarray, width: int) -> np.ndarray:
    """The mean of [h, w, ...] in a box around each pixel; 0 outside of the image."""
    for axis in (0, 1):
        padding = [(width // 2, width // 2) if i == axis else (0, 0) for i in range(image.ndim)]
        padded, size = np.pad(image.astype(np.float32, copy=False), padding), image.shape[axis]
        parts = (padded.take(range(k, k + size), axis) for k in range(width))
        image = sum(parts, np.zeros(image.shape, np.float32)) / np.float32(width)
    return image


def pooled(cases: Iterable[TissueSums]) -> TissueSums:
    """The sums of several cases together; only those that all of them have."""
    rows = list(cases)
    if not rows:
        return TissueSums((0,) * NUM_CLASSES, (0.0,) * 12, (0.0,) * 4, (0,) * 3, (0,) * 3)
    found = {}
    for field in dataclasses.fields(TissueSums):
        values = [getattr(row, field.name) for row in rows]
        width = min(map(len, values))
        found[field.name] = tuple(np.sum([value[:width] for value in values], axis=0).tolist())
    return TissueSums(**found)


def is_judged(sums: TissueSums) -> bool:
    """Whether the case has enough pixels for any verdict."""
    return sums.pixels[0] >= _LEAST_BRAIN and max(sums.pixels[1:]) >= _LEAST_PIXELS


@dataclasses.dataclass(frozen=True)
class _Sign:
    """A sign: right if its value is above 0, contradicted if below minus the margin."""

    value: float
    margin: float
    text: str

    @property
    def is_wrong(self) -> bool:
        return self.value < -self.margin


def contradictions(sums: TissueSums) -> list[str]:
    """The exchange that a case (or several, pooled) looks like, and the signs that it fails.

    Returns:
      One phrase each; empty for a right case. The exchange is missing where none would make every
      sign right.
    """
    wrong = [sign.text for sign in _signs(sums) if sign.is_wrong]
    likely = likely_exchange(sums) if wrong else ""
    return [f"{likely} {EXCHANGED}", *wrong] if likely else wrong


def likely_exchange(sums: TissueSums) -> str:
    """The two modalities or the classes whose exchange makes every sign right; '' if none does."""
    best, found = 0.0, ""
    same = list(range(len(MODALITIES)))
    trials: list[tuple[str, Sequence[int], Sequence[int]]] = []
    for one, other in _PAIRS:
        order = list(same)
        order[one], order[other] = other, one
        names = [DISPLAY_NAMES[MODALITIES[one]], DISPLAY_NAMES[MODALITIES[other]]]
        trials.append((" and ".join(names), order, range(NUM_CLASSES)))
    for classes in itertools.permutations(range(1, NUM_CLASSES)):
        moved = [value for value in range(1, NUM_CLASSES) if classes[value - 1] != value]
        *first, last = [CLASSES[value] for value in moved] or ["", ""]
        trials.append((f"{', '.join(first)} and {last}", same, (0, *classes)))
    for name, modalities, of_class in trials:
        signs = _signs(reordered(sums, modalities, of_class))
        # Values are cut, so that one sign alone does not decide.
        total = sum(min(sign.value + sign.margin, 1.0) for sign in signs)
        if not any(sign.is_wrong for sign in signs) and total > best:
            best, found = total, name
    return found


def reordered(sums: TissueSums, modalities: Sequence[int], classes: Sequence[int]) -> TissueSums:
    """The sums after the modality at each position is that at another, and classes likewise."""
    own = [value - 1 for value in classes[1:]]

    def of_pairs(values: tuple[float, ...], sign: int) -> tuple[float, ...]:
        if not values:
            return ()
        whole = np.zeros((len(MODALITIES), len(MODALITIES)))
        for (one, other), value in zip(_PAIRS, values, strict=True):
            whole[one, other], whole[other, one] = value, sign * value
        return tuple(float(whole[modalities[one], modalities[other]]) for one, other in _PAIRS)

    def of_classes(values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(values[k] for k in own) if len(values) == len(own) else ()

    def of_modalities(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(values[m] for m in modalities) if values else ()

    by_class = np.reshape(sums.sums, (NUM_CLASSES - 1, -1))[own][:, list(modalities)]
    return TissueSums(
        pixels=tuple(sums.pixels[value] for value in classes),
        sums=tuple(by_class.ravel().tolist()),
        cubes=of_modalities(sums.cubes),
        border=of_classes(sums.border),
        outer=of_classes(sums.outer),
        products=of_pairs(sums.products, 1),
        differences=of_pairs(sums.differences, -1),
        inner=sums.inner,
        fine_squares=of_modalities(sums.fine_squares),
        fine_cubes=of_modalities(sums.fine_cubes),
    )


def some_sign_is_wrong(sums: TissueSums) -> bool:
    """Whether any sign contradicts, though the whole may be too small for a verdict."""
    signs = [*_signs_of_classes(sums), *_signs_of_border(sums), *_signs_of_brain(sums)]
    return any(sign.is_wrong for sign in signs)


def _signs(sums: TissueSums) -> list[_Sign]:
    """Every sign that the sums are enough for.

    The smallest values among 20 right cases of BraTS 2018 and 2021 stand behind the margins.
    """
    if not is_judged(sums):
        return []
    return [*_signs_of_classes(sums), *_signs_of_border(sums), *_signs_of_brain(sums)]


def _signs_of_classes(sums: TissueSums) -> list[_Sign]:
    counts = np.array(sums.pixels)
    enough = counts >= _LEAST_PIXELS
    means = np.reshape(sums.sums, (NUM_CLASSES - 1, -1)) / np.maximum(counts[1:], 1)[:, None]
    ncr, ed, et = means
    found = []
    if enough[_ET] and enough[_NCR]:
        over = et - ncr
        other = _T2 if over[_T2] > over[_FLAIR] else _FLAIR
        found += [
            _Sign(over[_T1GD], 0.3, f"T1Gd is {-over[_T1GD]:.1f} SD darker in ET than in NCR/NET"),
            _more(over, _T1GD, _T1, 0.15, "ET over NCR/NET"),
            _more(over, _T1GD, other, 1.2, "ET over NCR/NET"),
        ]
    if enough[_ET] and enough[_ED]:
        over = et - ed
        found += [
            _Sign(over[_T1GD], 1.0, f"T1Gd is {-over[_T1GD]:.1f} SD darker in ET than in ED"),
            _more(over, _T1GD, _T1, 0.1, "ET over ED"),
        ]
    if enough[_ET]:
        margin = 0.9 if enough[_NCR] else 0.7
        text = f"T1Gd is {-et[_T1GD]:.1f} SD darker in ET than in the brain"
        found.append(_Sign(et[_T1GD], margin, text))
    if enough[_ED]:
        text = f"ED is not brighter than the brain in FLAIR ({ed[_FLAIR]:+.1f} SD)"
        found += [
            _more(ed, _FLAIR, _T1, 0.25, "ED"),
            _more(ed, _FLAIR, _T1GD, 0.25, "ED"),
            _Sign(ed[_FLAIR] - 0.2, 0.0, text),
        ]
    return found


def _more(z: np.ndarray, right: int, other: int, margin: float, tissue: str) -> _Sign:
    a, b = (DISPLAY_NAMES[MODALITIES[k]] for k in (other, right))
    text = f"{tissue} is brighter in {a} ({z[other]:+.1f} SD) than in {b} ({z[right]:+.1f} SD)"
    return _Sign(float(z[right] - z[other]), margin, text)


def _signs_of_border(sums: TissueSums) -> list[_Sign]:
    pairs = dict(zip((_NCR, _ED, _ET), zip(sums.border, sums.outer, strict=True), strict=False))
    share = {
        value: outer / border
        for value, (border, outer) in pairs.items()
        if border >= _LEAST_BORDER and sums.pixels[value] >= _LEAST_PIXELS
    }
    means = np.reshape(sums.sums, (NUM_CLASSES - 1, -1)) / np.maximum(sums.pixels[1:], 1)[:, None]
    bright = means[_ET - 1][_T1GD]
    enhances = bright - max(means[_ED - 1][_T1GD], 0) > _ENHANCES
    found = []
    for value in (_NCR, _ET):
        # ET of tumours of the meninges borders air.
        if value in share and _ED in share and not (value == _ET and enhances):
            text = (
                f"{share[value]:.0%} of the border of {CLASSES[value]} is with the brain outside "
                f"the tumour, {share[_ED]:.0%} of that of ED"
            )
            found.append(_Sign(share[_ED] - share[value], 0.05, text))
    few_ed = sums.pixels[_ED] < _LEAST_PIXELS
    if share.get(_ET, 0) > 0.5 and few_ed and sums.pixels[_ET] >= _LEAST_WITHOUT_ED:
        over = bright - means[_ET - 1][_T1]
        text = f"ET borders the brain, there is no ED, and T1Gd over T1 in ET is {over:+.1f} SD"
        found.append(_Sign(over - 0.5, 0.0, text))
    return found


def _signs_of_brain(sums: TissueSums) -> list[_Sign]:
    if sums.pixels[0] < _LEAST_FOR_CSF:
        return []
    found = []
    if not sums.differences:  # of version 0.1.0
        skew = np.array(sums.cubes) / sums.pixels[0]
        return [_csf(_T1, skew[_T2] - skew[_T1], 0.5), _csf(_FLAIR, skew[_T2] - skew[_FLAIR], 0.5)]
    for (one, other), product, cube in zip(_PAIRS, sums.products, sums.differences, strict=True):
        # Of the difference of two z, whose variance is 2 - 2 times their correlation.
        variance = max(2 - 2 * product / sums.pixels[0], 1e-2)
        skew = cube / sums.pixels[0] / variance**1.5
        if _T2 in (one, other):
            found.append(_csf(one + other - _T2, skew if one == _T2 else -skew, 0.3))
    # Where there is ET, it tells more.
    if sums.pixels[_ET] < _LEAST_PIXELS and sums.inner[0] >= _LEAST_FOR_CSF // 2:
        mean_square, mean_cube = (
            np.array(values) / sums.inner[0] for values in (sums.fine_squares, sums.fine_cubes)
        )
        fine = mean_cube / np.maximum(mean_square, 1e-6) ** 1.5
        text = (
            f"vessels are brighter in T1 than in T1Gd (skewness after smoothing {fine[_T1]:+.1f} "
            f"and {fine[_T1GD]:+.1f})"
        )
        found.append(_Sign(float(fine[_T1GD] - fine[_T1]), 0.3, text))
    return found


def _csf(other: int, skew: float, margin: float) -> _Sign:
    name = DISPLAY_NAMES[MODALITIES[other]]
    return _Sign(
        float(skew), margin, f"CSF is brighter in {name} than in T2 (skewness {-skew:+.1f})"
    )
