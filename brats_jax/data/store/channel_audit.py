"""Checks the channel order against the labels: T1Gd is brighter in ET than in NCR.

Gadolinium enhances ET. Of the four modalities, only T1Gd is clearly brighter in ET than in the
necrotic core, so that the labels identify its channel. They do not identify the other three.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES, MODALITIES
from brats_jax.runtime.document import Part
from brats_jax.runtime.text import plural

# Channel orders in use: of the Kaggle files, and the one that most loaders assume. No other order
# is ever suggested, because the labels identify T1Gd only; and these only if other signs agree.
_COMMON_ORDERS = (("flair", "t1", "t1gd", "t2"), ("t1", "t1gd", "t2", "flair"))
_NCR, _ET = CLASSES.index("NCR/NET"), CLASSES.index("ET")
_T1GD = MODALITIES.index("t1gd")
_LEAST_PIXELS, _CLEAR = 10, 0.5  # of a single case; normalised intensities


@dataclasses.dataclass(frozen=True)
class ClassSum(Part):
    """Pixels of a class, and the sum of their values in each channel."""

    pixels: int
    sum: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ContrastSums(Part):
    """Sums of one case over its slices with both ET and NCR.

    Attributes:
      slices: number of such slices.
      et, ncr: sums of the two classes.
    """

    slices: int
    et: ClassSum
    ncr: ClassSum


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelAudit(Part):
    """The result of the audit of a store.

    Attributes:
      verdict: 'confirmed' (T1Gd has the largest contrast, and it is positive), 'contradicted',
        'undecided' (contradicted, but no other sign of `tissue_audit` is), or 'not possible' (no
        slice has both classes).
      slices, patients: the data of the audit.
      contrast: mean in ET minus mean in NCR by modality; None if not possible.
      looks_like_t1gd: the modality with the largest positive contrast; None if none is positive.
      ignored: whether the preparation continued despite a contradiction.
    """

    verdict: str
    slices: int
    patients: int
    contrast: dict[str, float] | None = None
    looks_like_t1gd: str | None = None
    ignored: bool = False

    def to_json(self) -> dict[str, Any]:
        """All fields; without `contrast` and `looks_like_t1gd` if the audit was not possible."""
        document = dataclasses.asdict(self)
        if self.contrast is None:
            del document["contrast"], document["looks_like_t1gd"]
        return document


def contrast_sums(images: Iterable[np.ndarray], labels: Iterable[np.ndarray]) -> ContrastSums:
    """Sums the values of one case over its slices with both ET and NCR.

    Args:
      images: real[h, w, 4] of each slice, normalised, canonical order.
      labels: uint8[h, w] of each slice.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for image, label in zip(images, labels, strict=True):
        et, ncr = label == _ET, label == _NCR
        if et.any() and ncr.any():
            found.append((image[et], image[ncr]))

    def sum_of(part: int) -> ClassSum:
        none = np.zeros((0, len(MODALITIES)))
        values = np.concatenate([none, *(pair[part] for pair in found)])
        return ClassSum(len(values), tuple(values.sum(axis=0).tolist()))

    return ContrastSums(slices=len(found), et=sum_of(0), ncr=sum_of(1))


def judge(cases: Iterable[ContrastSums]) -> ChannelAudit:
    """Pools the sums of many cases.

    contrast_c = mean(values of channel c in ET) - mean(values of channel c in NCR)
    """
    used = [case for case in cases if case.slices]
    if not used:
        return ChannelAudit(verdict="not possible", slices=0, patients=0)

    def mean(sums: Sequence[ClassSum]) -> np.ndarray:
        return np.sum([one.sum for one in sums], axis=0) / sum(one.pixels for one in sums)

    contrast = mean([case.et for case in used]) - mean([case.ncr for case in used])
    best = int(contrast.argmax())
    positive = bool(contrast[best] > 0)
    return ChannelAudit(
        verdict="confirmed" if best == _T1GD and positive else "contradicted",
        slices=sum(case.slices for case in used),
        patients=len(used),
        contrast=dict(zip(MODALITIES, contrast.tolist(), strict=True)),
        looks_like_t1gd=MODALITIES[best] if positive else None,
    )


def reordered(case: ContrastSums, modalities: Sequence[int]) -> ContrastSums:
    """The sums after the modality at each position is that at another."""

    def moved(sums: ClassSum) -> ClassSum:
        return ClassSum(sums.pixels, tuple(sums.sum[k] for k in modalities))

    return ContrastSums(slices=case.slices, et=moved(case.et), ncr=moved(case.ncr))


def describe(audit: ChannelAudit) -> str:
    """One line for tables."""
    if audit.contrast is None:
        return "not possible: no slice holds both ET and NCR"
    contrast = ", ".join(
        f"{DISPLAY_NAMES[name]} {value:+.2f}" for name, value in audit.contrast.items()
    )
    return (
        f"{audit.verdict}; ET minus NCR over {plural(audit.slices, 'slice')} of "
        f"{plural(audit.patients, 'patient')}: {contrast}"
    )


def is_clear(case: ContrastSums) -> bool:
    """Whether a single case contradicts by far, with enough pixels."""
    contrast = judge([case]).contrast or {}
    others = max((value for name, value in contrast.items() if name != "t1gd"), default=0.0)
    enough = min(case.et.pixels, case.ncr.pixels) >= _LEAST_PIXELS
    return enough and others - max(contrast.get("t1gd", 0.0), 0.0) > _CLEAR


def finding(audit: ChannelAudit) -> str:
    """The contradiction of a single case, in words."""
    return f"T1Gd is not the brightest in ET over NCR/NET ({_shown(audit)})"


def _shown(audit: ChannelAudit) -> str:
    values = ", ".join(f"{name} {value:+.2f}" for name, value in (audit.contrast or {}).items())
    return f"ET minus NCR is {values}"


def complaint(
    audit: ChannelAudit,
    channel_order: Sequence[str] | None,
    agrees: Callable[[Sequence[str]], bool] = lambda order: True,
    exchange: str = "",
) -> str:
    """One line for a contradicted audit: the contradiction and the remedy.

    Args:
      audit: a contradicted audit.
      channel_order: the channel order of the files, if the user can choose it; else None.
      agrees: whether all other signs agree with an order. No other order is suggested: labels in
        another order look like channels in another one.
      exchange: what looks exchanged by all signs; '' if that is not known.
    """
    found, contrast = audit.looks_like_t1gd, audit.contrast or {}
    where = f"over {plural(audit.slices, 'slice')} of {plural(audit.patients, 'patient')}"
    finding = f"the labels contradict the names of the channels: {where} {_shown(audit)}"
    t1gd = contrast.get("t1gd", 0.0)
    if t1gd < 0 and t1gd == min(contrast.values()) and -t1gd >= contrast.get(found or "", 0.0):
        where = "the mask channels are NCR, ED, ET" if channel_order else "label values are right"
        return (
            f"{finding}, so ET and NCR look exchanged (T1Gd is darkest where ET should be); check "
            f"that {where} and that images and labels belong together"
        )
    if found is None:
        return (
            f"{finding}, and T1Gd should be brighter in ET; check that images and labels belong "
            "together, or continue with --ignore_audit"
        )
    if channel_order is None:
        return (
            f"{finding}, so the files called {found} look like T1Gd; check their names, or "
            "continue with --ignore_audit"
        )
    order = fitting_order(channel_order, found)
    if order is None or not agrees(order):
        likely = f" (by all signs together, {exchange} look exchanged)" if exchange else ""
        return (
            f"{finding}, so the channel read as {found} looks like T1Gd, or the labels are in "
            f"another order than NCR, ED, ET{likely}; find out the order of both where the files "
            "were made, and name that of the channels with --channel_order"
        )
    return (
        f"{finding}, so the channel read as {found} looks like T1Gd; --channel_order="
        f"{','.join(order)} would fit (the other signs agree), or continue with "
        "--ignore_audit"
    )


def fitting_order(channel_order: Sequence[str], found: str) -> tuple[str, ...] | None:
    """The order in use in which the channel now called `found` is T1Gd; None if there is none."""
    position = list(channel_order).index(found)
    return next((order for order in _COMMON_ORDERS if order[position] == "t1gd"), None)
