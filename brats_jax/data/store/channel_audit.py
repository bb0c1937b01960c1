"""Do the labels agree with the names of the channels? T1Gd is brighter in ET than in NCR.

Enhancement is what gadolinium does: of the four modalities only T1Gd is clearly brighter in
enhancing tumour than in the necrotic core, so labels tell which channel it is. They cannot tell
the other three apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from brats_jax.data.modalities import CLASSES, DISPLAY_NAMES, MODALITIES
from brats_jax.runtime.text import plural

# Orders found in the wild, to suggest the one that fits: the true one of the Kaggle files, and
# the one most loaders assume.
_COMMON_ORDERS = (("flair", "t1", "t1gd", "t2"), ("t1", "t1gd", "t2", "flair"))
_NCR, _ET = CLASSES.index("NCR/NET"), CLASSES.index("ET")
_T1GD = MODALITIES.index("t1gd")


def contrast_sums(images: Iterable[np.ndarray], labels: Iterable[np.ndarray]) -> dict[str, Any]:
    """What one case adds to the audit: sums over the slices that hold both ET and NCR.

    Args:
      images: real[h, w, 4] of each slice, normalised, canonical order.
      labels: uint8[h, w] of each.

    Returns:
      slices, and for 'et' and 'ncr' the pixels and the sum of their values per channel; json-able.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for image, label in zip(images, labels, strict=True):
        et, ncr = label == _ET, label == _NCR
        if et.any() and ncr.any():
            found.append((image[et], image[ncr]))
    sums: dict[str, Any] = {"slices": len(found)}
    for k, name in enumerate(("et", "ncr")):
        values = np.concatenate([np.zeros((0, len(MODALITIES))), *(pair[k] for pair in found)])
        sums[name] = {"pixels": len(values), "sum": values.sum(axis=0).tolist()}
    return sums


def judge(cases: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Pools the sums of many cases.

        contrast_c = mean(values of channel c in ET) - mean(values of channel c in NCR)

    Args:
      cases: results of `contrast_sums`.

    Returns:
      json-able: verdict 'confirmed' (T1Gd has the largest contrast, and it is positive),
      'contradicted', or 'not possible' (no slice holds both); slices, patients, contrast by
      modality, and looks_like_t1gd, the channel with the largest positive contrast or None.
    """
    used = [case for case in cases if case["slices"]]
    if not used:
        return {"verdict": "not possible", "slices": 0, "patients": 0}
    means = {
        name: np.sum([case[name]["sum"] for case in used], axis=0)
        / sum(case[name]["pixels"] for case in used)
        for name in ("et", "ncr")
    }
    contrast = means["et"] - means["ncr"]
    best = int(contrast.argmax())
    positive = bool(contrast[best] > 0)
    return {
        "verdict": "confirmed" if best == _T1GD and positive else "contradicted",
        "slices": sum(case["slices"] for case in used),
        "patients": len(used),
        "contrast": dict(zip(MODALITIES, contrast.tolist(), strict=True)),
        "looks_like_t1gd": MODALITIES[best] if positive else None,
    }


def describe(audit: Mapping[str, Any]) -> str:
    """One line for tables."""
    if audit["verdict"] == "not possible":
        return "not possible: no slice holds both ET and NCR"
    contrast = ", ".join(
        f"{DISPLAY_NAMES[name]} {value:+.2f}" for name, value in audit["contrast"].items()
    )
    return (
        f"{audit['verdict']}; ET minus NCR over {plural(audit['slices'], 'slice')} of "
        f"{plural(audit['patients'], 'patient')}: {contrast}"
    )


def complaint(audit: Mapping[str, Any], channel_order: Sequence[str] | None) -> str:
    """One line for a contradicted audit: what the data say and what to do.

    Args:
      audit: from `judge`.
      channel_order: the order on disk as it was read, where the user can choose it.
    """
    found = audit["looks_like_t1gd"]
    contrast = ", ".join(f"{name} {value:+.2f}" for name, value in audit["contrast"].items())
    says = (
        f"the labels contradict the names of the channels: over "
        f"{plural(audit['slices'], 'slice')} of {plural(audit['patients'], 'patient')} ET minus "
        f"NCR is {contrast}"
    )
    if found is None:
        return (
            f"{says}, and T1Gd should be brighter in ET; check that images and labels belong "
            "together, or go on with --ignore_audit"
        )
    if channel_order is None:
        return (
            f"{says}, so the files called {found} look like T1Gd; check their names, or go on "
            "with --ignore_audit"
        )
    order = ",".join(fitting_order(channel_order, found))
    return (
        f"{says}, so the channel read as {found} looks like T1Gd; --channel_order={order} would "
        "fit (T1Gd is all that can be told), or go on with --ignore_audit"
    )


def fitting_order(channel_order: Sequence[str], found: str) -> tuple[str, ...]:
    """A channel order on disk in which the channel now called `found` is T1Gd."""
    position = list(channel_order).index(found)
    for order in _COMMON_ORDERS:
        if order[position] == "t1gd":
            return order
    swap = {found: "t1gd", "t1gd": found}
    return tuple(swap.get(name, name) for name in channel_order)
